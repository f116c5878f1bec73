"""Every error tailorbird raises on purpose, in one tree.

    TailorbirdError
    ├── InvalidInput        400  what was given cannot be used
    │   ├── ObjectiveInvalid     the objective file, with the line
    │   ├── DataInvalid          the data, with file and row
    │   ├── ModelInvalid         a base model that cannot be used
    │   └── TooLarge        413  more bytes than are taken
    ├── Unauthenticated     401  no credential, or one that does not prove what it claims
    ├── Forbidden           403  the identity is known but may not do this
    ├── NotFound            404  no such thing in this tenant
    ├── Conflict            409  the thing is in a state that does not allow this
    │   ├── LeaseLost            another worker holds the step now
    │   └── Busy                 somebody else is doing this already
    ├── Exhausted           429  a budget, quota or limit is used up
    ├── Corrupt             500  bytes or signatures are not what they should be
    ├── Unavailable         503  a part (engine, database, model) cannot be reached
    │   └── AnswerLost           a server had the request, and may be paid for it, but gave no whole answer
    └── Internal            500  a defect of ours

Each carries a stable ``code``, an HTTP ``status``, a message that says what happened and a ``hint`` that
says what to do next. Text of a data row never stands in an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class TailorbirdError(Exception):
    """Root of the tree. ``str(error)`` is the message; ``hint`` says what to do next."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    #: Fields beside these that another process, or a client, is told too.
    details: ClassVar[tuple[str, ...]] = ()

    def __init__(self, message: str, hint: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.error_code = code or self.code

    def __reduce__(self) -> tuple[object, ...]:
        return (rebuilt, (type(self), self.as_dict()))

    def as_dict(self) -> dict[str, Any]:
        """The one JSON shape of an error: ``{code, message, hint}``, and its details where there are some."""
        told = {name: value for name in self.details if (value := getattr(self, name))}
        return {"code": self.error_code, "message": self.message, "hint": self.hint} | told


def rebuilt(kind: type[TailorbirdError], fields: Mapping[str, Any]) -> TailorbirdError:
    """The error of ``kind`` with what ``as_dict`` gave; what a kind has no room for is left out. Raises KeyError."""
    details = {name: fields[name] for name in kind.details if fields.get(name) is not None}
    return kind(str(fields["message"]), str(fields["hint"]), code=str(fields["code"]), **details)


class InvalidInput(TailorbirdError):
    """What was given cannot be used; ``param`` names the parameter to blame, where it is one."""

    code, status, details = "invalid_input", 400, ("param",)

    def __init__(self, message: str, hint: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message, hint, code=code)
        self.param = param


class ObjectiveInvalid(InvalidInput):
    """The objective file is wrong; ``line`` is 1-based, 0 where no single line is to blame."""

    code, details = "objective_invalid", ("line",)

    def __init__(self, message: str, hint: str, *, code: str | None = None, line: int = 0) -> None:
        super().__init__(message, hint, code=code)
        self.line = line


class DataInvalid(InvalidInput):
    """The data cannot be used."""

    code = "data_invalid"


class ModelInvalid(InvalidInput):
    """A base model that does not exist, or that cannot be read."""

    code = "model_invalid"


class TooLarge(InvalidInput):
    """More bytes than are taken."""

    code, status = "too_large", 413


class Unauthenticated(TailorbirdError):
    """No credential, or one that does not prove what it claims."""

    code, status = "unauthenticated", 401


class Forbidden(TailorbirdError):
    """The identity is known, but may not do this."""

    code, status = "forbidden", 403


class NotFound(TailorbirdError):
    """No such thing in this tenant."""

    code, status = "not_found", 404


class Conflict(TailorbirdError):
    """The thing is in a state that does not allow this."""

    code, status = "conflict", 409


class LeaseLost(Conflict):
    """Another worker holds the step now; this one's result is not taken."""

    code = "lease_lost"


class Busy(Conflict):
    """Somebody else is doing this already."""

    code = "busy"


class Exhausted(TailorbirdError):
    """A budget, quota or limit is used up; ``retry_after`` is in how many seconds there is more, where that is known."""

    code, status, details = "exhausted", 429, ("retry_after",)

    def __init__(self, message: str, hint: str, *, code: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, hint, code=code)
        self.retry_after = retry_after


class Corrupt(TailorbirdError):
    """Bytes, digests or signatures are not what they should be."""

    code, status = "corrupt", 500


class Unavailable(TailorbirdError):
    """A part (engine, database, package, port) cannot be reached or is not installed. ``retry_after`` is in how many seconds it is tried
    again, where that is known; ``silent``: a server outside the house that cannot be reached, or said nothing in time."""

    code, status, details = "unavailable", 503, ("retry_after",)

    def __init__(self, message: str, hint: str, *, code: str | None = None, retry_after: float | None = None, silent: bool = False) -> None:
        super().__init__(message, hint, code=code)
        self.retry_after = retry_after
        self.silent = silent


class AnswerLost(Unavailable):
    """A server outside the house took a request, and may be paid for it, but gave no whole answer."""

    code = "answer_lost"


class Internal(TailorbirdError):
    """A defect of ours."""

    code, status = "internal", 500


def error_named(kind: str, message: str, hint: str, code: str, line: int = 0) -> TailorbirdError:
    """The error that another process told by the name of its class; Internal where there is no class of that name."""
    found = globals().get(kind)
    found = found if isinstance(found, type) and issubclass(found, TailorbirdError) else Internal
    return rebuilt(found, {"message": message, "hint": hint, "code": code, "line": line or None})
