"""Preflight of a training job: findings before anything is spent."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from tailorbird.domain.value import Value


class PreflightSeverity(StrEnum):
    """``BLOCKING``: training would fail, or teach something else than was meant. ``WARNING``: it will work, at a price or not
    everywhere. ``NOTE``: worth knowing."""

    NOTE = "note"
    WARNING = "warning"
    BLOCKING = "blocking"


class PreflightFinding(Value):
    """Something found. ``code`` is stable; ``what`` names counts and labels, and never a row's text; ``remedy`` says what to do next."""

    code: str
    severity: PreflightSeverity
    what: str
    remedy: str


class ShownToken(Value):
    """A token as text, and whether it carries loss (``learned``) or is only read. ``control``: it steers the model, and is no text."""

    text: str
    learned: bool
    id: int = -1
    control: bool = False


class Examination(Value):
    """The findings, worst first; the rows of the first batch, token by token; and what was measured on the way, by name.

    ``first_batch`` holds rows' texts: it is shown to who asked, and never stored.
    """

    findings: tuple[PreflightFinding, ...]
    first_batch: tuple[tuple[ShownToken, ...], ...] = ()
    measured: dict[str, float] = Field(default_factory=dict)

    @property
    def blocking(self) -> tuple[PreflightFinding, ...]:
        """The findings that stand in the way."""
        return tuple(finding for finding in self.findings if finding.severity is PreflightSeverity.BLOCKING)
