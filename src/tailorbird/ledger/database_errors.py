"""Database errors as errors of the domain, with a hint for whoever meets them."""

from __future__ import annotations

from collections.abc import Iterator
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
        return _fault("busy", place)
    if isinstance(error, exc.IntegrityError):
        return Conflict("the record already holds something that this contradicts", "read its current state and try again")
    for start, kind in _SQLITE.items():
        if getattr(cause, "sqlite_errorname", "").startswith(start):
            return _fault(kind, place)
    if cause is not None and hasattr(cause, "sqlstate"):
        return _meaning_on_server(error, cause.sqlstate or "", place)
    if "no such table" in str(cause):
        return _fault("no tables", place)
    return _defect(error, getattr(cause, "sqlite_errorname", ""))


def _meaning_on_server(error: exc.SQLAlchemyError, state: str, place: str) -> TailorbirdError:
    for start, kind in _SQLSTATES.items():
        if state.startswith(start):
            return _fault(kind, place)
    if isinstance(error, exc.DataError):
        return InvalidInput(
            f"a value is too large for its column in {place}, or has a character that it cannot hold (NUL)",
            "leave the character out, or make the value smaller",
        )
    lost = isinstance(error, exc.OperationalError | exc.InterfaceError) and not state  # the driver's own: there was no answer
    return _fault("away", place) if lost else _defect(error, state)


def _tellable(error: exc.SQLAlchemyError) -> Exception:
    """The error as it may be shown. PostgreSQL's own words quote values of the row; its code and our statement say enough."""
    cause = getattr(error, "orig", None)
    state = getattr(cause, "sqlstate", None)
    if state is None:
        return error
    return RuntimeError(f"{type(cause).__name__} (SQLSTATE {state}) in: {getattr(error, 'statement', None)}")


#: What a fault of the database means: what is wrong with the ``{place}``, what to do, and the error's code.
_FAULTS = {
    "busy": ("another process kept {place} locked for too long", "try again; if it stays, find the process", "database_busy"),
    "unopened": (
        "the database {place} cannot be opened",
        "check that the file is there (tailorbird init makes it) and that you may read and write it and its folder",
        "database_unreachable",
    ),
    "away": (
        "the database {place} cannot be reached, or the connection was lost",
        "check that the server runs, that the database was made (createdb), and the URL's user and password; then try again",
        "database_unreachable",
    ),
    "forbidden": (
        "the database {place} refuses this to its user",
        "let the owner of the tables make them (tailorbird database migrate); tailorbird database roles grants gateway and worker theirs",
        "database_forbidden",
    ),
    "no tables": ("the database {place} lacks tables", "make them: tailorbird init", "database_schema"),
    "read-only": (
        "the database {place} may only be read here",
        "make it writable: a file together with its folder",
        "database_read_only",
    ),
    "full": ("the disk of {place} is full", "free some space; nothing that was acknowledged is lost", "disk_full"),
    "damaged": ("{place} is damaged or not a database", "restore it from a backup, then run: tailorbird audit verify", "database_corrupt"),
}


def _fault(kind: str, place: str) -> TailorbirdError:
    if kind == "file":  # on a full disk SQLite cannot open a file either: the index of its log takes 32 KiB
        file = Path(place)
        kind = "unopened" if not file.exists() or disk_usage(file.parent).free >= _LOG_INDEX_BYTES else "full"
    message, hint, code = _FAULTS[kind]
    if kind == "damaged":
        return Corrupt(message.format(place=place), hint, code=code)
    return Unavailable(message.format(place=place), hint, code=code, retry_after=_RETRY_AFTER if kind == "busy" else None)


def _defect(error: exc.SQLAlchemyError, name: str) -> TailorbirdError:
    what = " ".join(filter(None, (type(error).__name__, name)))
    return Internal(f"the database refused a statement ({what})", "please report this with the log", code="database")


#: Beginnings of SQLite's names of result codes to what they mean.
_SQLITE = {
    "SQLITE_BUSY": "busy",
    "SQLITE_LOCKED": "busy",
    "SQLITE_CANTOPEN": "file",
    "SQLITE_PERM": "unopened",
    "SQLITE_AUTH": "unopened",
    "SQLITE_IOERR": "file",
    "SQLITE_READONLY": "read-only",
    "SQLITE_FULL": "full",
    "SQLITE_CORRUPT": "damaged",
    "SQLITE_NOTADB": "damaged",
}

#: Beginnings of SQLSTATEs to what they mean, the longer before the shorter. https://www.postgresql.org/docs/current/errcodes-appendix.html
_SQLSTATES = {
    "08": "away",  # connection exceptions
    "25006": "read-only",
    "25P03": "away",  # the session was ended because it was silent
    "28": "away",  # user or password
    "3D": "away",  # no such database
    "40": "busy",  # serialisation failure, deadlock
    "42501": "forbidden",
    "42P01": "no tables",
    "53100": "full",
    "53": "busy",  # too many connections, no memory
    "55P03": "busy",  # the lock was not free in time
    "57014": "busy",  # cancelled: a statement took too long
    "57P": "away",  # shutting down, starting up, database dropped
    "58": "unopened",  # input and output on the server
    "XX001": "damaged",
    "XX002": "damaged",
}
