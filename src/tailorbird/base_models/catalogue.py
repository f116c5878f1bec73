"""Catalogue of base models.

Revision pins: the commit that each hub name stands for in this cache.
"""

from __future__ import annotations

import os
import tomllib
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from pydantic import ValidationError

from tailorbird.crypto.canonical_json import digest_bytes, short
from tailorbird.domain.base_model import CatalogueEntry
from tailorbird.system.files import private_folder


@lru_cache(maxsize=1)
def catalogue() -> tuple[CatalogueEntry, ...]:
    """Base models on offer, in the order of the file."""
    text = files("tailorbird.base_models").joinpath("catalogue.toml").read_text(encoding="utf-8")
    return tuple(CatalogueEntry.model_validate(entry) for entry in tomllib.loads(text)["model"])


def entry_at(location: str) -> CatalogueEntry | None:
    """The entry of the hub's repository ``location``, or None."""
    return next((entry for entry in catalogue() if entry.source.kind == "hub" and entry.source.location == location), None)


def entry_named(name: str) -> CatalogueEntry | None:
    """The entry called ``name``, or None."""
    return next((entry for entry in catalogue() if entry.name == name), None)


_SUFFIX = ".pin.json"


def pinned(name: str, cache: Path) -> CatalogueEntry | None:
    """The entry that ``name`` was pinned to, or None."""
    return _read(_path(name, cache))


def entry_of(name: str, cache: Path) -> CatalogueEntry | None:
    """The entry of ``name``: of the catalogue, with commit, size and licence of what was pulled from the hub; or what was pinned."""
    entry = entry_named(name)
    if entry is None or entry.source.kind != "hub":
        return entry or pinned(name, cache)
    found = pinned(address_of(entry), cache)
    if found is None:
        return entry
    licence = entry.license if found.license == "unknown" else found.license
    return entry.model_copy(update={"source": found.source, "parameters": found.parameters, "license": licence})


def address_of(entry: CatalogueEntry) -> str:
    """The hub's name of an entry, without a commit; empty where it lies elsewhere."""
    return f"hf://{entry.source.location}" if entry.source.kind == "hub" else ""


def pin(entry: CatalogueEntry, cache: Path) -> None:
    """Stores the entry under its name."""
    path = _path(entry.name, private_folder(cache))
    draft = path.with_suffix(f".{os.getpid()}.partial")
    draft.write_text(entry.model_dump_json(indent=2), encoding="utf-8")
    draft.replace(path)


def all_pinned(cache: Path) -> list[CatalogueEntry]:
    """Every entry, in the order of their names."""
    found = [_read(path) for path in cache.glob(f"*{_SUFFIX}")]
    return sorted((entry for entry in found if entry), key=lambda entry: entry.name)


def slug(location: str) -> str:
    """``OWNER/NAME`` as part of a file's name."""
    return location.replace("/", "--").lower()


def _path(name: str, cache: Path) -> Path:
    return cache / f"{short(digest_bytes(name.encode()))}{_SUFFIX}"


def _read(path: Path) -> CatalogueEntry | None:
    try:
        return CatalogueEntry.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
