"""Every digest that stands anywhere in the rows of tenants: what must be kept of the artifacts.

In: nothing. Out: digests. Must not know: what any of them names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqlalchemy import Connection, String, Text, or_, select

from tailorbird.domain.value import Digest
from tailorbird.ledger.columns import CanonicalJson
from tailorbird.ledger.tables import log_entries, metadata

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ROWS_AT_ONCE = 2000


class References:
    """Implements ``ReferenceBook``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def digests(self, of: str | None = None) -> Iterator[Digest]:
        """Digests in the rows of tenant ``of``, or of all tenants."""
        for table in metadata.sorted_tables:
            if "tenant" not in table.c or table is log_entries:
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
