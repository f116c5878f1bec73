"""Watch over a process that computes: its threads sleep at barriers while other processes want the cores, whatever computes.

A training looks before each of its passes (``Barriers.look``). What measures and tunes encoders, and an engine within a command, has no
such place: beside another process that computes on two cores, an answer of a small encoder took 113 to 488 ms at the 95th percentile in
place of 8, and takes 24 to 32 with threads that sleep (docs/decisions/0140-a-process-that-computes-watches-for-others.md).
"""

from __future__ import annotations

import logging
import os
import threading
import time

from tailorbird.system.thread_clocks import Barriers, ThreadPool

#: Seconds between two looks.
_EVERY = 0.25
_begun = threading.Lock()
_log = logging.getLogger("tailorbird.system")


def watch_barriers(pool: ThreadPool) -> None:
    """Watches from now on, for as long as the process lives; once, whoever asks. Where ``GOMP_SPINCOUNT`` or ``OMP_WAIT_POLICY`` say how
    threads wait, or a device other than the processor computes, nothing is changed."""
    settled = os.environ.get("GOMP_SPINCOUNT") or os.environ.get("OMP_WAIT_POLICY")
    if settled or pool.waits or pool.threads() == 1 or not _begun.acquire(blocking=False):
        return
    threading.Thread(target=_watch, args=(Barriers(pool),), name="barrier watch", daemon=True).start()


def _watch(barriers: Barriers) -> None:
    while True:
        time.sleep(_EVERY)
        try:
            barriers.look()
        except RuntimeError:  # no thread can be started any more: the interpreter ends, or the system has no more
            _log.debug("the watch over barriers ended", exc_info=True)
            return
