"""Immutable values by digest, and every digest that rows refer to.

In: values, digests. Out: the same values; digests in use. Must not know: tables, files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

from tailorbird.domain.value import Digest, Value

V = TypeVar("V", bound=Value)


class RecordRepository(Protocol):
    """One tenant's frozen values. A record's name is the digest of its canonical JSON."""

    def put(self, value: Value) -> Digest:
        """Stores ``value`` (idempotent) and returns its digest."""
        ...

    def get(self, kind: type[V], digest: Digest) -> V:
        """The value of type ``kind`` named ``digest``. Raises NotFound, or Corrupt when the row does not match its digest."""
        ...

    def forget(self, kind: type[Value], digests: Iterable[Digest]) -> int:
        """Deletes records whose words must go: who asks for one from then on gets NotFound. How many there were."""
        ...

    def digests(self, kind: type[Value]) -> tuple[Digest, ...]:
        """Digests of all records of a type, oldest first."""
        ...


class ReferenceBook(Protocol):
    """System repository: every digest that stands anywhere in the record."""

    def digests(self, of: str | None = None) -> Iterator[Digest]:
        """Digests in the rows of tenant ``of``, or of all tenants, in no order and perhaps more than once."""
        ...
