"""The base models: which are on offer, how one is brought here, and what it is made of.

In: a catalogue name or a local path, a cache folder, a ``ModelReader``. Out: a folder of safetensors, and values that describe it. Must
not know: torch, how a model is run.
"""

from tailorbird.models.cached import ModelCache
from tailorbird.models.catalogue import catalogue
from tailorbird.models.description import ModelDigests, describe, is_encoder, register
from tailorbird.models.known import known_of
from tailorbird.models.pulling import ModelListing, installed, pull, require_known

__all__ = [
    "ModelCache",
    "ModelDigests",
    "ModelListing",
    "catalogue",
    "describe",
    "installed",
    "is_encoder",
    "known_of",
    "pull",
    "register",
    "require_known",
]
