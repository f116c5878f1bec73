"""Objects that the garbage collector need not walk."""

from __future__ import annotations

import gc


def exempt_present_objects() -> None:
    """What is in memory now stays as long as the process: it is not walked again. Walking all modules of a server takes 0.2 s, and
    nothing else of Python happens meanwhile."""
    gc.collect()
    gc.freeze()
