"""Catalogue of base models."""

from __future__ import annotations

import tomllib
from functools import lru_cache
from importlib.resources import files

from tailorbird.domain.base_model import CatalogueEntry


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
