"""Blocking calls on the engine: several requests submitted at once, results in order, with a bound on the queue."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from tailorbird.domain.errors import Internal, TailorbirdError

_log = logging.getLogger("tailorbird.engine")

#: Requests from outside that may wait, in all and of one tenant.
WAITING, WAITING_EACH = 1024, 256

T = TypeVar("T")
Cancel = Callable[[], None]


class BlockingCall(Generic[T]):
    """``count`` results to wait for. The first error ends the call, and with it every request that it began."""

    def __init__(self, count: int) -> None:
        self._found: list[T | None] = [None] * count
        self._missing = count
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def settle(self, place: int, result: T) -> None:
        """The result at ``place`` is there."""
        with self._changed:
            self._found[place] = result
            self._missing -= 1
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """There will be no results."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def results(self, begin: Iterable[Cancel]) -> list[T]:
        """Begins the requests, one after the other, and waits for all. Raises what beginning raises, and what any of them failed with."""
        begun: list[Cancel] = []
        try:
            begun.extend(begin)
            with self._changed:
                while self._missing and self._error is None:
                    self._changed.wait()
            if self._error is not None:
                raise (
                    self._error
                    if not isinstance(self._error, TailorbirdError)
                    else type(self._error)(self._error.message, self._error.hint, code=self._error.error_code)
                )
        except BaseException:
            for cancel in begun:
                cancel()
            raise
        return [found for found in self._found if found is not None]


def defect(error: BaseException) -> Internal:
    """Error for a caller after an unexpected exception; the log has the rest."""
    _log.error("a step of the engine failed", exc_info=error)
    return Internal("the engine failed on this request", "look at the engine's log", code="engine_defect")


def told(error: BaseException) -> TailorbirdError:
    """``error`` as its caller is told of it: one of our tree as it is, anything else as a defect."""
    return error if isinstance(error, TailorbirdError) else defect(error)
