"""Database errors as errors of the domain, with a hint for whoever meets them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import disk_usage

from sqlalchemy import exc

from tailorbird.domain.errors import Conflict, Corrupt, Internal, InvalidInput, TailorbirdError, Unavailable

_LOG_INDEX_BYTES = 32 * 1024
#: Longest wait, in seconds, of a transaction that need not be durable for another writer; and when who was told ``database_busy`` may ask
#: again.
HASTY_SECONDS, _RETRY_AFTER = 1.0, 5.0


@contextmanager
def database_errors(place: str) -> Iterator[None]:
    """Raises errors of the block that come from the database ``place`` (its file, or its address without password) as errors of ours."""
    try:
        yield
    except exc.SQLAlchemyError as error:
        raise _meaning(error, place) from _tellable(error)


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
    for start, meaning in _SQLITE.items():
        if getattr(cause, "sqlite_errorname", "").startswith(start):
            return meaning(place)
    if cause is not None and hasattr(cause, "sqlstate"):
        return _meaning_on_server(error, cause.sqlstate or "", place)
    if "no such table" in str(cause):
        return _not_migrated(place)
    return _defect(error, getattr(cause, "sqlite_errorname", ""))


def _meaning_on_server(error: exc.SQLAlchemyError, state: str, place: str) -> TailorbirdError:
    for start, meaning in _SQLSTATES.items():
        if state.startswith(start):
            return meaning(place)
    if isinstance(error, exc.DataError):
        return _not_storable(place)
    lost = isinstance(error, exc.OperationalError | exc.InterfaceError) and not state  # the driver's own: there was no answer
    return _no_server(place) if lost else _defect(error, state)


def _tellable(error: exc.SQLAlchemyError) -> Exception:
    """The error as it may be shown. PostgreSQL's own words quote values of the row; its code and our statement say enough."""
    cause = getattr(error, "orig", None)
    state = getattr(cause, "sqlstate", None)
    if state is None:
        return error
    return RuntimeError(f"{type(cause).__name__} (SQLSTATE {state}) in: {getattr(error, 'statement', None)}")


def _busy(place: str) -> TailorbirdError:
    return Unavailable(
        f"another process kept {place} locked for too long",
        "try again; if it stays, find the process",
        code="database_busy",
        retry_after=_RETRY_AFTER,
    )


def _unreachable(place: str) -> TailorbirdError:
    return Unavailable(
        f"the database {place} cannot be opened",
        "check that the file is there (tailorbird init makes it) and that you may read and write it and its folder",
        code="database_unreachable",
    )


def _unopened_file(place: str) -> TailorbirdError:
    """On a full disk SQLite cannot open a file either: the index of its log takes 32 KiB."""
    file = Path(place)
    has_room = not file.exists() or disk_usage(file.parent).free >= _LOG_INDEX_BYTES
    return _unreachable(place) if has_room else _full(place)


def _no_server(place: str) -> TailorbirdError:
    return Unavailable(
        f"the database {place} cannot be reached, or the connection was lost",
        "check that the server runs, that the database was made (createdb), and the URL's user and password; then try again",
        code="database_unreachable",
    )


def _forbidden(place: str) -> TailorbirdError:
    return Unavailable(
        f"the database {place} refuses this to its user",
        "let the owner of the tables make them (tailorbird database migrate); tailorbird database roles grants gateway and worker theirs",
        code="database_forbidden",
    )


def _not_migrated(place: str) -> TailorbirdError:
    return Unavailable(f"the database {place} lacks tables", "make them: tailorbird init", code="database_not_migrated")


def _read_only(place: str) -> TailorbirdError:
    return Unavailable(
        f"the database {place} may only be read here",
        "make it writable: a file together with its folder",
        code="database_read_only",
    )


def _full(place: str) -> TailorbirdError:
    return Unavailable(f"the disk of {place} is full", "free some space; nothing that was acknowledged is lost", code="disk_full")


def _damaged(place: str) -> TailorbirdError:
    return Corrupt(
        f"{place} is damaged or not a database", "restore it from a backup, then run: tailorbird audit verify", code="database_corrupt"
    )


def _not_storable(place: str) -> TailorbirdError:
    return InvalidInput(
        f"a value is too large for its column in {place}, or has a character that it cannot hold (NUL)",
        "leave the character out, or make the value smaller",
        code="value_not_storable",
    )


def _defect(error: exc.SQLAlchemyError, name: str) -> TailorbirdError:
    what = " ".join(filter(None, (type(error).__name__, name)))
    return Internal(f"the database refused a statement ({what})", "please report this with the log", code="database")


#: Beginnings of SQLite's names of result codes to what they mean.
_SQLITE: dict[str, Callable[[str], TailorbirdError]] = {
    "SQLITE_BUSY": _busy,
    "SQLITE_LOCKED": _busy,
    "SQLITE_CANTOPEN": _unopened_file,
    "SQLITE_PERM": _unreachable,
    "SQLITE_AUTH": _unreachable,
    "SQLITE_IOERR": _unopened_file,
    "SQLITE_READONLY": _read_only,
    "SQLITE_FULL": _full,
    "SQLITE_CORRUPT": _damaged,
    "SQLITE_NOTADB": _damaged,
}

#: Beginnings of SQLSTATEs to what they mean, the longer before the shorter. https://www.postgresql.org/docs/current/errcodes-appendix.html
_SQLSTATES: dict[str, Callable[[str], TailorbirdError]] = {
    "08": _no_server,  # connection exceptions
    "25006": _read_only,
    "25P03": _no_server,  # the session was ended because it was silent
    "28": _no_server,  # user or password
    "3D": _no_server,  # no such database
    "40": _busy,  # serialisation failure, deadlock
    "42501": _forbidden,
    "42P01": _not_migrated,
    "53100": _full,
    "53": _busy,  # too many connections, no memory
    "55P03": _busy,  # the lock was not free in time
    "57014": _busy,  # cancelled: a statement took too long
    "57P": _no_server,  # shutting down, starting up, database dropped
    "58": _unreachable,  # input and output on the server
    "XX001": _damaged,
    "XX002": _damaged,
}
