"""What a confined process may take to look at the files of a base model."""

from __future__ import annotations

from pathlib import Path

from tailorbird.domain.errors import ModelInvalid
from tailorbird.system.sandbox import SandboxJob, SandboxLimits

#: A header of weights of the largest size that the format allows takes less memory than this, and far less time.
_LOOKING = SandboxLimits(memory=3 << 30, processor=30, wait=80.0, output=16 << 20)


def job_for(folder: Path, target: str) -> SandboxJob:
    """What has ``target`` look at ``folder``; no tensor is loaded."""
    given = {"folder": str(folder.absolute())}
    return SandboxJob(target, given, _LOOKING, folder.name, ModelInvalid, (target.partition(":")[0],), broken="model_config")
