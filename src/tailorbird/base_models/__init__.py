"""Base models: the catalogue, pulling one, and its description.

In: a catalogue name, a hub name or a local path, a cache folder, a ``ModelReader``. Out: a folder of safetensors, and values that
describe it. Must not know: torch, how a model is run.

    catalogue > pull (sources) > model_cache > description > artifact store
"""

from tailorbird.base_models.catalogue import address_of, catalogue
from tailorbird.base_models.description import ModelDigests, describe, known_facts, register_base
from tailorbird.base_models.model_cache import ModelCache, with_template
from tailorbird.base_models.pull import ModelListing, list_models, pull, with_prefixes
from tailorbird.base_models.sources import licence_of

__all__ = [
    "ModelCache",
    "ModelDigests",
    "ModelListing",
    "address_of",
    "catalogue",
    "describe",
    "known_facts",
    "licence_of",
    "list_models",
    "pull",
    "register_base",
    "with_prefixes",
    "with_template",
]
