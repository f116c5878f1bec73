"""The end of a job that is the last to use weights, at the worst moment of a load."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from tailorbird.inference.registry import Held, Registry, Weights


class LastUse:
    """A use of ``held``, which is unloaded: it ends in another thread once a load has found weights, or at ``end`` where the registry's
    lock keeps it out until then."""

    def __init__(self, registry: Registry, held: Held) -> None:
        self._registry, self._held = registry, held
        self._over = False

    def beside(self, shared: Callable[..., Weights]) -> Callable[..., Weights]:
        """``shared``, after which the use ends where it can."""

        def found(*given: Any, **named: Any) -> Weights:
            weights = shared(*given, **named)
            other = threading.Thread(target=self._end_unless_kept_out)
            other.start()
            other.join()
            return weights

        return found

    def end(self) -> None:
        """It is over."""
        if not self._over:
            self._over = True
            self._registry.release(self._held)

    def _end_unless_kept_out(self) -> None:
        if self._registry.lock.acquire(blocking=False):
            try:
                self.end()
            finally:
                self._registry.lock.release()
