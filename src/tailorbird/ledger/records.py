"""Repository of immutable values by digest, and all digests that tenants' rows refer to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TypeVar

from sqlalchemy import ColumnElement, Connection, String, Text, delete, or_, select

from tailorbird.crypto.anchored_rows import RowChanges, RowGroup, record_group
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.errors import NotFound
from tailorbird.domain.value import Digest, Value
from tailorbird.ledger.row_mapping import CanonicalJson, insert_new, next_number, text_of, unreadable, value_from_text
from tailorbird.ledger.tables import log_entries, metadata, records

V = TypeVar("V", bound=Value)


class Records:
    """Implements ``RecordRepository``. A record's kind is the name of its class."""

    def __init__(self, connection: Connection, tenant: str, changes: RowChanges | None = None) -> None:
        self._connection = connection
        self._tenant = tenant
        self._changes = changes or RowChanges()

    def put(self, value: Value) -> Digest:
        """Stores ``value`` unless it is there already, and returns its digest."""
        kind, body = type(value).__name__, text_of(value)
        digest = digest_bytes(body.encode())
        number = next_number(records.c.number, records.c.tenant == self._tenant, records.c.kind == kind)
        row = {"tenant": self._tenant, "kind": kind, "digest": digest, "number": number, "body": body}
        if insert_new(self._connection, records, row):
            known = self._digests(kind)
            before = record_group(self._tenant, kind, [other for other in known if other != digest])
            self._changes.note(before, record_group(self._tenant, kind, known))
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
        with self._changes.changing(lambda: (record_group(self._tenant, kind.__name__, self._digests(kind.__name__)),)):
            return sum(
                self._connection.execute(delete(records).where(*self._of(kind), records.c.digest == digest)).rowcount for digest in named
            )

    def groups(self) -> Iterator[RowGroup]:
        """What is anchored of each kind. Raises Corrupt where one does not say what its digest stands for."""
        found: dict[str, list[Digest]] = {}
        asked = select(records.c.kind, records.c.digest, records.c.body).where(records.c.tenant == self._tenant)
        for kind, digest, body in self._connection.execute(asked.execution_options(yield_per=_ROWS_AT_ONCE)):
            if digest_bytes(body.encode()) != digest:
                raise unreadable(Value)
            found.setdefault(kind, []).append(digest)
        yield from (record_group(self._tenant, kind, digests) for kind, digests in found.items())

    def _digests(self, kind: str) -> list[Digest]:
        return list(self._connection.scalars(select(records.c.digest).where(records.c.tenant == self._tenant, records.c.kind == kind)))

    def digests(self, kind: type[Value]) -> tuple[Digest, ...]:
        """Digests of all records of a kind, oldest first."""
        return tuple(self._connection.scalars(select(records.c.digest).where(*self._of(kind)).order_by(records.c.number, records.c.digest)))

    def _of(self, kind: type[Value]) -> tuple[ColumnElement[bool], ...]:
        return records.c.tenant == self._tenant, records.c.kind == kind.__name__


_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ROWS_AT_ONCE = 2000


class References:
    """Implements ``ReferenceBook``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def digests(self, of: str | None = None) -> Iterator[Digest]:
        """Digests in the rows of tenant ``of``, or of all tenants."""
        for table in metadata.sorted_tables:
            if "tenant" not in table.c or table is log_entries:  # anchored rows have no such column either
                continue
            columns = [column for column in table.c if isinstance(column.type, String | Text | CanonicalJson) and column.name != "tenant"]
            plain = [column.cast(Text) if isinstance(column.type, CanonicalJson) else column for column in columns]
            asked = select(*plain).where(or_(*(column.contains("sha256:") for column in plain))) if plain else None
            if asked is None:
                continue
            asked = asked if of is None else asked.where(table.c.tenant == of)
            for row in self._connection.execute(asked.execution_options(yield_per=_ROWS_AT_ONCE)):
                for value in row:
                    yield from _DIGEST.findall(value or "")
