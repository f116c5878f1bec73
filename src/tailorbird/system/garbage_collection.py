"""Objects that the garbage collector need not walk."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


def exempt_present_objects(*, walk: bool = True) -> None:
    """What is in memory now stays as long as the process: it is not walked again. Walking all modules of a server takes 0.2 s, ten thousand
    names 0.5 s, and nothing else of Python happens meanwhile.

    Garbage is collected before; without ``walk``, which takes no time, what refers to itself and is garbage by now stays, too.
    """
    if walk:
        gc.collect()
    gc.freeze()


@contextmanager
def uncollected() -> Iterator[None]:
    """No search for cycles meanwhile: for work that makes none, and holds millions of objects that each search would walk over. What it has
    made counts as old when it ends: the next search walks over what is newer."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            if not gc.get_freeze_count():  # else what is exempt would be no more
                gc.freeze()
                gc.unfreeze()
            gc.enable()
