"""Threads that OpenMP keeps for a thread that computed: released, so that those of another one wait for it in the fast way.

GNU's OpenMP gives each thread that computes a pool of its own, which lasts as long as that thread. Where all pools together have more
threads than there are cores, none of them spins at a barrier any more (libgomp's manual, GOMP_SPINCOUNT): a step of the engine took twice
as long where the thread that had asked for it had once multiplied matrices (14 layers of transformers' pass, two cores).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path

#: ``omp_pause_soft`` of OpenMP 5: threads go, settings stay.
_SOFT = 1


def release_threads() -> None:
    """Ends the threads that OpenMP keeps for the calling thread. They come back when it computes again."""
    _pause()(_SOFT)


@cache
def _pause() -> Callable[[int], object]:
    """OpenMP's function, in the library that torch has loaded; one that does nothing where there is none (macOS, Windows)."""
    torch = find_spec("torch")
    libraries = sorted((Path(torch.origin).parent / "lib").glob("libgomp*.so*")) if torch and torch.origin else []
    for path in libraries:
        with suppress(OSError, AttributeError):
            pause: Callable[[int], object] = ctypes.CDLL(str(path)).omp_pause_resource_all
            return pause
    return lambda _: None
