"""Fingerprint of the code that a training runs through, and the versions of libraries."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tailorbird.domain.value import Digest

#: Libraries that compute, or that turn text into tokens.
_LIBRARIES = ("torch", "transformers", "tokenizers", "peft", "safetensors", "jinja2", "bitsandbytes")
_PACKAGE = Path(__file__).parent.parent
#: Where the code stands that decides a training's steps; of other rooms it takes values alone.
_ROOMS = ("training", "text")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def versions() -> dict[str, str]:
    """The version of each library that is installed."""
    return {name: found for name in _LIBRARIES if (found := _version(name))}


@cache
def code_digest() -> Digest:
    """Of the modules that this room imports, itself included, without comments and docstrings; and of the libraries' versions."""
    found = hashlib.sha256(repr(sorted(versions().items())).encode())
    for path in sorted(_reached((_PACKAGE / "training").rglob("*.py"))):
        found.update(path.relative_to(_PACKAGE).as_posix().encode() + b"\0" + _code_of(path).encode() + b"\0")
    return "sha256:" + found.hexdigest()


def _reached(start: Iterator[Path]) -> set[Path]:
    """The files of ``_ROOMS`` that are imported from ``start``, however indirectly, and those of ``start``."""
    reached: set[Path] = set()
    waiting = list(start)
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            waiting += _imported(ast.parse(path.read_bytes()))
    return reached


def _imported(tree: ast.Module) -> Iterator[Path]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name in _names(node):
                package, *inner = name.split(".")
                if package == "tailorbird" and inner and inner[0] in _ROOMS:
                    place = _PACKAGE.joinpath(*inner)
                    yield from (file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file())


def _names(node: ast.Import | ast.ImportFrom) -> list[str]:
    names = [alias.name for alias in node.names]
    return names if isinstance(node, ast.Import) else [node.module or "", *(f"{node.module}.{name}" for name in names)]


def _code_of(path: Path) -> str:
    """What a file does: its code without comments and docstrings."""
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return ast.unparse(tree)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
