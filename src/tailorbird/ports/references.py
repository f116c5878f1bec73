"""Which artifacts the record leads to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from tailorbird.domain.value import Digest


class ReferenceBook(Protocol):
    """System repository: every digest that stands anywhere in the record."""

    def digests(self, of: str | None = None) -> Iterator[Digest]:
        """Digests in the rows of tenant ``of``, or of all tenants, in no order and perhaps more than once."""
        ...
