"""Which code trains.

In: the installed files. Out: a digest that changes when a run would take other steps than before, and the versions of libraries. Must not
know: jobs.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tailorbird import foundations
from tailorbird.domain.value import Digest

#: Libraries that compute, or that turn text into tokens.
_LIBRARIES = ("torch", "transformers", "tokenizers", "peft", "safetensors", "jinja2", "bitsandbytes")
_HERE = Path(__file__).parent
#: What writes prompts lies with what training and serving share.
_ROOMS = (_HERE, Path(foundations.__file__).parent)


def versions() -> dict[str, str]:
    """The version of each library that is installed."""
    return {name: found for name in _LIBRARIES if (found := _version(name))}


@cache
def code_digest() -> Digest:
    """Of the files of this room and of the foundations, and of the libraries' versions."""
    found = hashlib.sha256(repr(sorted(versions().items())).encode())
    for room in _ROOMS:
        for path in sorted(room.rglob("*.py")):
            found.update(path.relative_to(room.parent).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return "sha256:" + found.hexdigest()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
