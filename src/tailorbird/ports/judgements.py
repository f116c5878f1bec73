"""What reviewers said of a release's answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from tailorbird.domain.review import Judgement
from tailorbird.domain.value import Digest


class JudgementRepository(Protocol):
    """One tenant's judgements."""

    def add(self, judgement: Judgement) -> None:
        """Adds a judgement. Raises Conflict when this reviewer has judged this item of this release already."""
        ...

    def of(self, release: Digest) -> tuple[Judgement, ...]:
        """All judgements of a release, in the order in which they were given."""
        ...

    def forget_reasons(self, given: Iterable[Judgement]) -> int:
        """Empties the reasons of these judgements, whose marks stay; how many there were."""
        ...
