"""The base models: which are on offer, how one is brought here, and what it is made of.

In: a catalogue name or a local path, a cache folder, a ``ModelReader``. Out: a folder of safetensors, and values that describe it. Must
not know: torch, how a model is run.
"""

from tailorbird.base_models.catalogue import catalogue
from tailorbird.base_models.description import ModelDigests, describe, is_encoder, known_facts, register_base
from tailorbird.base_models.model_cache import ModelCache
from tailorbird.base_models.pull import ModelListing, list_models, pull, require_known

__all__ = [
    "ModelCache",
    "ModelDigests",
    "ModelListing",
    "catalogue",
    "describe",
    "is_encoder",
    "known_facts",
    "list_models",
    "pull",
    "register_base",
    "require_known",
]
