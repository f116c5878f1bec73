"""This process: name of its build, standard streams, end of threads that compute, garbage collector, locks and caches of libraries."""

from __future__ import annotations

import atexit
import gc
import hashlib
import io
import os
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Protocol

from tailorbird import __version__

_PACKAGE = Path(__file__).parent.parent
#: What Python and compilers leave beside the files of a package.
_MADE = (".pyc", ".pyo", ".so", ".o")
#: Hex digits that tell builds apart.
_DIGITS = 12


@cache
def build_name() -> str:
    """``VERSION+DIGEST``, as PEP 440 writes a local version. Of the files as they are when a process first asks."""
    return f"{__version__}+{source_digest(_PACKAGE)}"


def source_digest(package: Path) -> str:
    """The first hex digits of SHA-256 over names and bytes of the files in the folder ``package``, in the order of their names."""
    found = hashlib.sha256()
    for name, path in sorted((path.relative_to(package).as_posix(), path) for path in _files(package)):
        data = path.read_bytes()
        found.update(f"{name}\0{len(data)}\0".encode() + data)
    return found.hexdigest()[:_DIGITS]


def _files(package: Path) -> Iterator[Path]:
    for path in package.rglob("*"):
        hidden = any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(package).parts)
        if not hidden and path.suffix not in _MADE and path.is_file():
            yield path


#: Seconds that a last step may take at the exit.
LAST_STEP = 20.0


class Computing(Protocol):
    """Has a thread that computes."""

    def end(self) -> None:
        """Takes no more work, and waits until what is computed now is over."""
        ...


_computing: weakref.WeakSet[Computing] = weakref.WeakSet()


def end_before_exit(one: Computing) -> None:
    """``one`` is ended when the interpreter begins to end, if it lives so long."""
    _computing.add(one)


@atexit.register
def _end_all() -> None:
    for one in list(_computing):
        one.end()


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


def complete_standard_streams() -> None:
    """Opens those of the three that whoever started this process closed: Python has None in their place, and what is opened next (a
    connection, the record) would get the number to which libraries write their warnings. A letter that the encoding of standard output
    lacks is written as its number, ``\\u2265``."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number; children have it, too
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def writes_all_letters() -> bool:
    """True where standard output takes any text as it is."""
    return (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")


#: While it reads a model, transformers replaces a method of the class of all its models (the one that ties weights) and torch's default
#: type; what silences it replaces stderr. Two threads that did so at once would leave the replacements in place for good: models whose
#: output heads hold random numbers, and a process without stderr.
model_load = threading.RLock()


#: Primitives kept: more than the layers of a small model have shapes in one pass (docs/benchmarks.md).
KEPT_PRIMITIVES = 64
#: MiB of each.
PRIMITIVE_MIB = 0.6
_VARIABLE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


def limit_primitive_cache() -> None:
    """Sets the limit for this process and those that it starts, unless it is set. To be called before anything is computed."""
    os.environ.setdefault(_VARIABLE, str(KEPT_PRIMITIVES))
