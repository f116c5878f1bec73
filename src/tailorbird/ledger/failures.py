"""What a database error means to whoever meets it.

In: SQLAlchemy's errors. Out: errors of our own tree, each with what to do next. Must not know: which statement failed, or its
parameters: they may hold a row's text, and never leave this room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import exc

from tailorbird.domain.errors import Conflict, Corrupt, Internal, TailorbirdError, Unavailable


@contextmanager
def database_errors(place: str) -> Iterator[None]:
    """Raises errors of the block that come from the database ``place`` (its file, or its address without password) as errors of ours."""
    try:
        yield
    except exc.SQLAlchemyError as error:
        raise _meaning(error, place) from error


def _meaning(error: exc.SQLAlchemyError, place: str) -> TailorbirdError:
    cause = getattr(error, "orig", None)
    if isinstance(cause, TailorbirdError):
        return cause
    if isinstance(error, exc.TimeoutError):
        return _busy(place)
    if isinstance(error, exc.IntegrityError):
        return Conflict(
            "the record already holds something that this contradicts", "read its current state and try again", code="integrity"
        )
    name = str(getattr(cause, "sqlite_errorname", ""))
    for start, meaning in _SQLITE.items():
        if name.startswith(start):
            return meaning(place)
    if "no such table" in str(cause):
        return _not_migrated(place)
    kind = type(error).__name__
    return Internal(
        f"the database refused a statement ({kind} {name})".replace(" )", ")"), "please report this with the log", code="database"
    )


def _busy(place: str) -> TailorbirdError:
    return Unavailable(
        f"another process kept {place} locked for too long", "try again; if it stays, find the process", code="database_busy"
    )


def _unreachable(place: str) -> TailorbirdError:
    return Unavailable(
        f"the database {place} cannot be opened",
        "check that the file is there (tailorbird init makes it) and that you may read and write it and its folder",
        code="database_unreachable",
    )


def _not_migrated(place: str) -> TailorbirdError:
    return Unavailable(f"the database {place} lacks tables", "bring it to this version: tailorbird init", code="database_not_migrated")


def _read_only(place: str) -> TailorbirdError:
    return Unavailable(
        f"the database {place} may only be read here",
        "make the file and its folder writable; code that changes something opens its work with write=True",
        code="database_read_only",
    )


def _full(place: str) -> TailorbirdError:
    return Unavailable(f"the disk of {place} is full", "free some space; nothing that was acknowledged is lost", code="disk_full")


def _damaged(place: str) -> TailorbirdError:
    return Corrupt(
        f"{place} is damaged or not a database", "restore it from a backup, then run: tailorbird audit verify", code="database_corrupt"
    )


#: Beginnings of SQLite's names of result codes to what they mean.
_SQLITE: dict[str, Callable[[str], TailorbirdError]] = {
    "SQLITE_BUSY": _busy,
    "SQLITE_LOCKED": _busy,
    "SQLITE_CANTOPEN": _unreachable,
    "SQLITE_PERM": _unreachable,
    "SQLITE_AUTH": _unreachable,
    "SQLITE_IOERR": _unreachable,
    "SQLITE_READONLY": _read_only,
    "SQLITE_FULL": _full,
    "SQLITE_CORRUPT": _damaged,
    "SQLITE_NOTADB": _damaged,
}
