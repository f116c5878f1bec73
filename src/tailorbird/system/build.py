"""Name of this build: the version, and a digest of the package's own files, so that builds of one version are told apart.

The same files have the same name, from a checkout or from a wheel, on every machine; an edited file gives another. Nothing is asked but the
files: no git, no network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

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
