"""Long lists, a page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from tailorbird.console.forms import Fields

T = TypeVar("T")
#: Nobody leafs through more.
_FARTHEST = 10_000_000


@dataclass(frozen=True)
class Paging:
    """``skip`` of ``total`` are left out before this page of ``size``."""

    total: int
    skip: int
    size: int

    @classmethod
    def of(cls, query: Fields, total: int, size: int) -> Paging:
        """The page that the address asks for by ``skip``; the first where that is no number."""
        asked = query.get("skip", "0")
        return cls(total, min(int(asked), _FARTHEST) if asked.isascii() and asked.isdigit() and len(asked) < 12 else 0, size)

    @property
    def newer(self) -> int | None:
        """What the page before this one leaves out; None on the first."""
        return max(self.skip - self.size, 0) if self.skip else None

    @property
    def older(self) -> int | None:
        """What the next page leaves out; None on the last."""
        return self.skip + self.size if self.skip + self.size < self.total else None

    def cut(self, whole: Sequence[T]) -> Sequence[T]:
        """This page of a list that is here whole."""
        return whole[self.skip : self.skip + self.size]
