"""What a job holds while it lives: its servable's weights, and whom to tell when it fails."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from tailorbird.domain.errors import TailorbirdError
from tailorbird.inference.registry import Loaded


class WeightLease:
    """Keeps a servable's weights in memory until the job ends, however it ends. ``over`` is called once, then; ``failed`` is told why."""

    def __init__(self, loaded: Loaded, over: Callable[[], None], failed: Callable[[TailorbirdError], object]) -> None:
        self._loaded = loaded
        self._over = over
        self._failed = failed
        self._ending = threading.Lock()
        self.live = True

    @property
    def adapter(self) -> Any:
        """What changes the weights; None: nothing."""
        return self._loaded.adapter

    def end(self) -> bool:
        """The job is over; True for the first who says so."""
        with self._ending:
            first, self.live = self.live, False
        if first:
            self._over()
        return first

    def fail(self, error: TailorbirdError) -> None:
        """The job is over, for a reason to tell."""
        if self.end():
            self._failed(error)
