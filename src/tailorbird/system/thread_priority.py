"""Priority of a thread against the others of its machine."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

#: Niceness that is added: beside a thread that is ready all the time one behind it has a tenth of a core. And the most that there is.
_BEHIND, _MOST = 10, 19


def stand_back() -> None:
    """From here on this thread, and each that it starts, computes after those of usual priority. For good: only a privileged process may
    take it back. On systems where threads have no priority of their own nothing changes."""
    if sys.platform == "linux":
        with suppress(OSError):
            thread = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, thread, min(_MOST, os.getpriority(os.PRIO_PROCESS, thread) + _BEHIND))
