"""Finding personal data in texts: our own detectors, and others that an installation brings.

In: texts. Out: where something of which kind stands, for as long as the text is at hand. Must not know: policies, rows, files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from tailorbird.domain.curation import PersonalKind


class Span(NamedTuple):
    """``text[start:end]`` is personal data of ``kind``. Never stored: it would tell where a secret stands."""

    start: int
    end: int
    kind: PersonalKind


class Detector(Protocol):
    """Finds personal data. ``name`` and ``version`` go into the report: another version may find other things."""

    @property
    def name(self) -> str:
        """What an objective calls it."""
        ...

    @property
    def version(self) -> str:
        """Which version of it looked."""
        ...

    def detect(self, texts: Sequence[str]) -> list[list[Span]]:
        """The spans in each text, in any order; they may overlap."""
        ...
