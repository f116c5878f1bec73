"""Revision pins: each workspace keeps the commit that a hub name stood for."""

from __future__ import annotations

from pathlib import Path

from tailorbird.base_models import ModelCache, known_facts, list_models
from tailorbird.base_models.catalogue import pin
from tailorbird.domain.base_model import CatalogueEntry, ModelSource


def test_a_name_is_pinned_by_each_workspace_for_itself(tmp_path: Path) -> None:
    entry = CatalogueEntry(
        name="hf://acme/tiny",
        title="acme/tiny",
        license="mit",
        parameters=1,
        source=ModelSource(kind="hub", location="acme/tiny", version="a" * 40),
    )
    one, other = (ModelCache(tmp_path / name / "models", tmp_path / "cache") for name in ("one", "other"))
    pin(entry, one.own)
    assert known_facts(entry.name, one) == entry
    assert [listed.name for listed in list_models(one)][-1] == entry.name
    assert entry.name not in [listed.name for listed in list_models(other)]
