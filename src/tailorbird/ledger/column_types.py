"""Column types that give back exactly what was stored, on any database."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, Text
from sqlalchemy.types import TypeDecorator

from tailorbird.crypto.canonical_json import canonical_json
from tailorbird.domain.errors import Corrupt, InvalidInput


class UtcTime(TypeDecorator[datetime]):
    """A moment, to the microsecond. Stored in UTC and read as UTC; a time without a zone is refused."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Any zone to UTC; SQLite, which has no zones, gets it without."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise InvalidInput("a time without a zone cannot be recorded", "give the time in UTC", code="time_without_zone")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Aware, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class CanonicalJson(TypeDecorator[Any]):
    """Lists and mappings of JSON types, as canonical JSON text; what is read back gives the same digest."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, _dialect: Dialect) -> str | None:
        """To text."""
        return None if value is None else canonical_json(value).decode()

    def process_result_value(self, value: str | None, _dialect: Dialect) -> Any:
        """From text. Raises Corrupt."""
        try:
            return None if value is None else json.loads(value)
        except ValueError:
            raise Corrupt(
                "a stored list or mapping cannot be read: it was changed outside tailorbird",
                "restore the database from a backup, then run: tailorbird audit verify",
                code="record_corrupt",
            ) from None
