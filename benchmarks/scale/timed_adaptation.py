"""One ``adapt`` of an objective in a copied workspace, timed."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class TimedAdaptation(NamedTuple):
    """Seconds of the whole and of each step, the release's digest, and what was told on stderr."""

    seconds: float
    release: str
    steps: dict[str, float]
    progress: str


def timed_adaptation(workspace: Path, objective: Path, environment: Mapping[str, str]) -> TimedAdaptation:
    """Copies the workspace ``new`` beside ``workspace``, and adapts in it. Ends the benchmark where ``adapt`` fails."""
    from support.e2e import Desk

    shutil.copytree(workspace.parent / "new", workspace, symlinks=True)
    desk = Desk(workspace, None)
    desk.environment |= environment
    started = time.monotonic()
    status, out, err = desk.call("adapt", str(objective), "--json")
    seconds = round(time.monotonic() - started, 1)
    if status != 0:
        sys.exit(f"adapt ended with {status}:\n{err[-3000:]}")
    (run,) = desk.json("runs", "list")
    steps = {step["name"]: round(step["seconds"], 1) for step in desk.json("runs", "show", run["id"])["steps"]}
    return TimedAdaptation(seconds, json.loads(out)["release"], steps, err)
