"""Values by digest, and every digest that rows of tenants refer to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TypeVar

from support.doubles.ledger.tables import Repository, Table, text_of
from tailorbird.crypto.anchored_rows import RowGroup, record_group
from tailorbird.crypto.canonical_json import canonical_json, digest_bytes
from tailorbird.domain.errors import NotFound
from tailorbird.domain.value import Digest, Value

V = TypeVar("V", bound=Value)

#: Canonical JSON by kind and digest.
RECORDS: Table[tuple[str, Digest], bytes] = Table("records")


class MemoryRecords(Repository):
    """Implements ``RecordRepository``. A record's kind is the name of its class."""

    def put(self, value: Value) -> Digest:
        """Stores ``value`` unless it is there already, and returns its digest."""
        body = canonical_json(value)
        digest = digest_bytes(body)
        with self._transaction.unanchored.changing(lambda: (self._group_of(type(value).__name__),)):
            self._change(RECORDS).setdefault((type(value).__name__, digest), body)
        return digest

    def get(self, kind: type[V], digest: Digest) -> V:
        """The value named ``digest``. Raises NotFound."""
        body = self._rows(RECORDS).get((kind.__name__, digest))
        if body is None:
            raise NotFound(
                f"no {kind.__name__} with the digest {digest} in {self._tenant}", "check the digest and the tenant", code="record_missing"
            )
        return kind.model_validate_json(body)

    def forget(self, kind: type[Value], digests: Iterable[Digest]) -> int:
        """Deletes records whose words must go; how many there were."""
        rows = self._change(RECORDS)
        with self._transaction.unanchored.changing(lambda: (self._group_of(kind.__name__),)):
            return sum(rows.pop((kind.__name__, digest), None) is not None for digest in digests)

    def groups(self) -> Iterator[RowGroup]:
        """What is anchored of each kind."""
        yield from map(self._group_of, sorted({kind for kind, _ in self._rows(RECORDS)}))

    def _group_of(self, kind: str) -> RowGroup:
        return record_group(self._tenant, kind, [digest for name, digest in self._rows(RECORDS) if name == kind])

    def digests(self, kind: type[Value]) -> tuple[Digest, ...]:
        """Digests of all records of a kind, oldest first."""
        return tuple(digest for name, digest in self._rows(RECORDS) if name == kind.__name__)


_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class MemoryReferences(Repository):
    """Implements ``ReferenceBook``."""

    def digests(self, of: str | None = None) -> Iterator[Digest]:
        """Digests in the rows of tenant ``of``, or of all tenants."""
        for tenant in self._transaction.tenants() if of is None else (of,):
            for rows in self._transaction.tables(tenant).values():
                for key, row in rows.items():
                    yield from _DIGEST.findall(text_of((key, row)))
