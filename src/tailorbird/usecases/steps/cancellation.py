"""Cancellation and failure of steps: budget, cancelled run, lost lease, full disk or memory, and the error that the run records."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable

from tailorbird.domain.errors import Exhausted, InvalidInput, TailorbirdError, Unavailable
from tailorbird.domain.ladder import Making
from tailorbird.domain.objective import Budget
from tailorbird.domain.run import Failure, StepProgress, TrainingProgress
from tailorbird.system.machine import PeakMemory
from tailorbird.usecases.dependencies import Progress
from tailorbird.usecases.steps.transitions import Spent

_HINT = "adapt again: it goes on where it stopped; if it breaks off again, report it with the version and what the worker's log says"

#: Errors that a rung ends with for a reason of its own, beside those of its input: the next rung may do better.
_FAILURES = frozenset({"memory", "model_invalid", "internal", "plan_incomplete"})

#: Errors of a hosted model, which has been asked several times by then: other rungs do not wait for it.
_HOSTED_FAILURES = frozenset(
    {
        "endpoint_unavailable",
        "endpoint_refused",
        "endpoint_busy",
        "endpoint_key_missing",
        "endpoint_changed",
        "endpoint_missing",
        "endpoint_not_allowed",
        "terms_forbid",
        "proposer_saw_test",
        "search_money",
        "address_private",
    }
)


def ended_by(error: Exception) -> Making | None:
    """The budget is used up, or the rung failed by itself; None for anything else (a lost lease, a full disk, a record that is away), so
    that the step is tried again."""
    code = error.error_code if isinstance(error, TailorbirdError) else ""
    if code == "budget_spent":
        return Making(candidate=None, stopped=str(error))
    if isinstance(error, InvalidInput) or code in _FAILURES | _HOSTED_FAILURES:
        return Making(candidate=None, failed=True, stopped=f"{error} [{code}]")
    if isinstance(error, TailorbirdError | OSError):
        return None
    # The words of an error that is not ours may hold a row's text.
    return Making(candidate=None, failed=True, stopped=f"it broke off with {type(error).__name__}")


def failure_of(error: BaseException) -> Failure:
    """Failure for the step's record. Of a foreign error only its type: its message may hold a row's text."""
    if isinstance(error, TailorbirdError):
        return Failure(code=error.error_code, message=error.message, hint=error.hint)
    return Failure(code="internal", message=f"it broke off with {type(error).__name__}", hint=_HINT)


class WatchedProgress:
    """The progress of one step, watched: remembers the last of it for the lease, and raises in the working thread what ends the step."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._last = StepProgress()
        self._end: TailorbirdError | None = None

    def progress(self) -> Progress:
        """The callbacks to hand to the work."""
        return Progress(tell=self._tell, training=self._training, count=self._count)

    @property
    def last(self) -> StepProgress:
        """Latest progress of the step."""
        with self._lock:
            return self._last

    def end(self, error: TailorbirdError) -> None:
        """Makes the next callback raise ``error``. May be called from another thread."""
        self._end = self._end or error

    def _tell(self, text: str) -> None:
        self._note(StepProgress(text=text, done=self._last.done, total=self._last.total))
        self._progress.tell(text)

    def _training(self, seen: TrainingProgress) -> None:
        self._note(self._last.model_copy(update={"done": seen.step, "total": seen.steps, "training": seen}))
        self._progress.training(seen)

    def _count(self, done: int, total: int) -> None:
        self._note(self._last.model_copy(update={"done": done, "total": total}))
        self._progress.count(done, total)

    def _note(self, seen: StepProgress) -> None:
        with self._lock:
            self._last = seen
        if self._end is not None:
            raise self._end


def within_budget(progress: Progress, budget: Budget, spent: Spent, per_hour: float) -> Progress:
    """Progress that raises Exhausted (``budget_spent``) once hours or money of ``budget`` are used up, counting on from ``spent``."""
    started = time.monotonic()

    def check() -> None:
        hours = (time.monotonic() - started) / 3600
        if spent.hours + hours > budget.hours:
            raise _spent(f"the budget of {budget.hours:g} h is used up")
        if spent.money + hours * per_hour > budget.money:
            raise _spent(f"the budget of {budget.money:g} {budget.currency} is used up")

    return _guarded(progress, check)


def within_memory(progress: Progress, budget: Budget, memory: PeakMemory) -> Progress:
    """Progress that raises Exhausted (``memory``) once the process has taken more than the memory of ``budget``."""
    return _guarded(progress, lambda: require_memory(budget, memory))


def _guarded(progress: Progress, check: Callable[[], None]) -> Progress:
    """Progress that calls ``check``, which raises what ends the work, after each sign of it but the last of a training."""

    def training(seen: TrainingProgress) -> None:
        progress.training(seen)
        if seen.step < seen.steps:
            check()

    def count(done: int, total: int) -> None:
        progress.count(done, total)
        check()

    def tell(text: str) -> None:
        progress.tell(text)
        check()

    return Progress(tell=tell, training=training, count=count)


def require_memory(budget: Budget, memory: PeakMemory) -> None:
    """Raises Exhausted (``memory``) where the process has taken more than the memory of ``budget``."""
    if budget.memory_gb != "auto" and memory.gib > budget.memory_gb:
        raise Exhausted(
            f"the process took {memory.gib:.1f} GiB of memory and the budget is {budget.memory_gb:g} GiB",
            "raise `budget.memory_gb`, or leave the rung out of the ladder",
            code="memory",
        )


def _spent(what: str) -> Exhausted:
    return Exhausted(what, "the climb goes on with what was measured; a larger budget in the objective is a new run", code="budget_spent")


def failed_disk(error: OSError) -> Unavailable:
    """Domain error for an OSError of a step outside the artifact store: in the run's own folder, in a cache."""
    place = error.filename or "the workspace"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable(f"no space is left for {place}", "free some space, then run the same command again", code="disk_full")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Unavailable(
            f"{place} may not be read or written", "give this user the right to read and write there", code="storage_forbidden"
        )
    reason = error.strerror or type(error).__name__
    return Unavailable(f"{place} cannot be used: {reason}", "check it, then run the same command again", code="storage_unreachable")
