"""Reader of submitted objectives in a sandboxed process: the largest take most of a second, in which nobody else is answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tailorbird.domain.errors import ObjectiveInvalid
from tailorbird.objective.objective_file import ObjectiveFile
from tailorbird.objective.reader import parse_objective
from tailorbird.system.sandbox import SandboxJob, SandboxLimits, stream

_LIMITS = SandboxLimits(memory=1 << 30, processor=10, wait=60.0, output=1 << 26)


def parse_submitted(text: str, name: str, tenant: str = "") -> ObjectiveFile:
    """As ``parse_objective``. Raises ObjectiveInvalid, Unavailable."""
    given = {"text": text, "name": name, "tenant": tenant}
    job = SandboxJob(f"{__name__}:parsed", given, _LIMITS, name, ObjectiveInvalid, (__name__,), "objective_invalid")
    try:
        return ObjectiveFile.model_validate_json("".join(stream(job)))
    except (TypeError, ValueError) as error:
        raise ObjectiveInvalid(f"{name}: it cannot be read", "write it again, as plain YAML") from error


def parsed(given: dict[str, Any]) -> Iterator[str]:
    """In a confined process: the objective as JSON. Raises ObjectiveInvalid."""
    yield parse_objective(given["text"], given["name"], tenant=given["tenant"]).model_dump_json()
