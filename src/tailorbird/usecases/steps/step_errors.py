"""What an error means that ended a rung."""

from __future__ import annotations

from tailorbird.domain.errors import InvalidInput, TailorbirdError
from tailorbird.domain.ladder import Making
from tailorbird.domain.run import Failure

_HINT = "adapt again: it goes on where it stopped; if it breaks off again, report it with the version and what the worker's log says"

#: Errors that a rung ends with for a reason of its own, beside those of its input: the next rung may do better.
_FAILURES = frozenset({"memory", "model_invalid", "internal", "plan_incomplete"})


def ended_by(error: Exception) -> Making | None:
    """The budget is used up, or the rung failed by itself; None for anything else (a lost lease, a full disk, a record that is away), so
    that the step is tried again."""
    code = error.error_code if isinstance(error, TailorbirdError) else ""
    if code == "budget_spent":
        return Making(candidate=None, stopped=str(error))
    if isinstance(error, InvalidInput) or code in _FAILURES:
        return Making(candidate=None, failed=True, stopped=f"{error} [{code}]")
    if isinstance(error, TailorbirdError | OSError):
        return None
    # The words of an error that is not ours may hold a row's text.
    return Making(candidate=None, failed=True, stopped=f"it broke off with {type(error).__name__}")


def failure_of(error: BaseException) -> Failure:
    """Why a step failed, as its record keeps it. Of an error that is not ours only its type: its words may hold a row's text."""
    if isinstance(error, TailorbirdError):
        return Failure(code=error.error_code, message=error.message, hint=error.hint)
    return Failure(code="internal", message=f"it broke off with {type(error).__name__}", hint=_HINT)
