"""What is known of a base model before it is fetched: its licence and its size, as far as anybody says.

In: a catalogue name, a name of the hub or a local path, the cache folder. Out: a ``CatalogueEntry``. Must not know: how it is converted.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from tailorbird.domain.base_model import CatalogueEntry, ModelSource
from tailorbird.domain.errors import ModelInvalid
from tailorbird.models import hub
from tailorbird.models.cached import ModelCache
from tailorbird.models.catalogue import entry_named
from tailorbird.models.description import count_parameters
from tailorbird.models.pins import pinned


def known_of(name: str, cache: Path | ModelCache) -> CatalogueEntry:
    """The entry of ``name``; of a local model its licence is unknown, and its size where it is a folder of safetensors.

    A model of the hub that was not pulled before is asked for: raises ModelInvalid (no such model), Unavailable (no answer).
    """
    kept = hub.cache_for(name, ModelCache.of(cache))
    entry = entry_named(name) or pinned(name, kept.own)
    if entry is not None:
        return entry
    if name.startswith(hub.PREFIX):
        return hub.resolve(name)
    parameters = 0
    with suppress(ModelInvalid):
        parameters = count_parameters(Path(name).expanduser())
    source = ModelSource(kind="folder", location=name)
    return CatalogueEntry(name=name, title=name, license="unknown", parameters=parameters, source=source)
