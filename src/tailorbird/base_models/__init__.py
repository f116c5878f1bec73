"""Base models: the catalogue, pulling one, and its description.

In: a catalogue name, a hub name or a local path, a cache folder, a ``ModelReader``. Out: a folder of safetensors, and values that
describe it. Must not know: torch, how a model is run.

    catalogue > pull (hub_source, local_source) > model_cache, revision_pins > description, local_description > artifact store
"""

from tailorbird.base_models.catalogue import catalogue
from tailorbird.base_models.description import ModelDigests, describe, known_facts, register_base
from tailorbird.base_models.local_description import describe_local
from tailorbird.base_models.local_source import licence_of
from tailorbird.base_models.model_cache import ModelCache, with_template
from tailorbird.base_models.pull import ModelListing, find_local, list_models, pull, require_known, with_prefixes
from tailorbird.base_models.revision_pins import address_of

__all__ = [
    "ModelCache",
    "ModelDigests",
    "ModelListing",
    "address_of",
    "catalogue",
    "describe",
    "describe_local",
    "find_local",
    "known_facts",
    "licence_of",
    "list_models",
    "pull",
    "register_base",
    "require_known",
    "with_prefixes",
    "with_template",
]
