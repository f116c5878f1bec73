"""Threads that OpenMP keeps for a thread that computes: how many, and when they go, so that those of another one wait in the fast way.

GNU's OpenMP gives each thread that computes a pool of its own, which lasts as long as that thread. Where all pools together have more
threads than there are cores, none of them spins at a barrier any more (libgomp's manual, GOMP_SPINCOUNT): a step of the engine took twice
as long where the thread that had asked for it had once multiplied matrices (14 layers of transformers' pass, two cores).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import torch

#: ``omp_pause_soft`` of OpenMP 5: threads go, settings stay.
_SOFT = 1


def release_threads() -> None:
    """Ends the threads that OpenMP keeps for the calling thread. They come back when it computes again."""
    _function("omp_pause_resource_all")(_SOFT)


@contextmanager
def at_most_threads(count: int) -> Iterator[None]:
    """Inside, the calling thread computes with at most ``count`` threads; others go on with theirs."""
    most = torch.get_num_threads()  # which also settles it for this thread
    _function("omp_set_num_threads")(min(count, most))
    try:
        yield
    finally:
        _function("omp_set_num_threads")(most)


@cache
def _function(name: str) -> Callable[[int], object]:
    """OpenMP's function, in the library that torch has loaded; one that does nothing where there is none (macOS, Windows)."""
    libraries = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))
    for path in libraries:
        with suppress(OSError, AttributeError):
            function: Callable[[int], object] = getattr(ctypes.CDLL(str(path)), name)
            return function
    return lambda _: None
