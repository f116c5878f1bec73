"""What is known of a base model before it is fetched: its licence and its size, as far as anybody says."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from tailorbird.base_models import hub_source
from tailorbird.base_models.catalogue import entry_named
from tailorbird.base_models.description import count_parameters
from tailorbird.base_models.model_cache import ModelCache
from tailorbird.base_models.revision_pins import pinned
from tailorbird.domain.base_model import CatalogueEntry, ModelSource
from tailorbird.domain.errors import ModelInvalid


def known_of(name: str, cache: Path | ModelCache) -> CatalogueEntry:
    """The entry of ``name``; of a local model its licence is unknown, and its size where it is a folder of safetensors.

    A model of the hub that was not pulled before is asked for: raises ModelInvalid (no such model), Unavailable (no answer).
    """
    kept = hub_source.cache_for(name, ModelCache.of(cache))
    entry = entry_named(name) or pinned(name, kept.own)
    if entry is not None:
        return entry
    if name.startswith(hub_source.PREFIX):
        return hub_source.resolve(name)
    parameters = 0
    with suppress(ModelInvalid):
        parameters = count_parameters(Path(name).expanduser())
    source = ModelSource(kind="folder", location=name)
    return CatalogueEntry(name=name, title=name, license="unknown", parameters=parameters, source=source)
