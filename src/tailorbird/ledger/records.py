"""Frozen values by digest.

In: domain values. Out: the same values, checked against their digest. Must not know: what kinds of value there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from sqlalchemy import ColumnElement, Connection, delete, select

from tailorbird.domain.errors import NotFound
from tailorbird.domain.value import Digest, Value
from tailorbird.foundations.canonical import digest_bytes
from tailorbird.ledger.rows import insert_new, next_number, text_of, unreadable, value_from_text
from tailorbird.ledger.tables import records

V = TypeVar("V", bound=Value)


class Records:
    """Implements ``RecordRepository``. A record's kind is the name of its class."""

    def __init__(self, connection: Connection, tenant: str) -> None:
        self._connection = connection
        self._tenant = tenant

    def put(self, value: Value) -> Digest:
        """Stores ``value`` unless it is there already, and returns its digest."""
        kind, body = type(value).__name__, text_of(value)
        digest = digest_bytes(body.encode())
        number = next_number(records.c.number, records.c.tenant == self._tenant, records.c.kind == kind)
        row = {"tenant": self._tenant, "kind": kind, "digest": digest, "number": number, "body": body}
        insert_new(self._connection, records, row)
        return digest

    def get(self, kind: type[V], digest: Digest) -> V:
        """The value named ``digest``. Raises NotFound, or Corrupt when the row does not have that digest any more."""
        body = self._connection.scalar(select(records.c.body).where(*self._of(kind), records.c.digest == digest))
        if body is None:
            raise NotFound(
                f"no {kind.__name__} with the digest {digest} in {self._tenant}", "check the digest and the tenant", code="record_missing"
            )
        if digest_bytes(body.encode()) != digest:
            raise unreadable(kind)
        return value_from_text(kind, body)

    def forget(self, kind: type[Value], named: Iterable[Digest]) -> int:
        """Deletes records whose words must go; how many there were."""
        return sum(
            self._connection.execute(delete(records).where(*self._of(kind), records.c.digest == digest)).rowcount for digest in named
        )

    def digests(self, kind: type[Value]) -> tuple[Digest, ...]:
        """Digests of all records of a kind, oldest first."""
        return tuple(self._connection.scalars(select(records.c.digest).where(*self._of(kind)).order_by(records.c.number, records.c.digest)))

    def _of(self, kind: type[Value]) -> tuple[ColumnElement[bool], ...]:
        return records.c.tenant == self._tenant, records.c.kind == kind.__name__
