"""Inference engine: label scoring, generation, retrieval, and many adapters on one base model. Beside training the only package with torch.

In: servables (verified folders) and messages. Out: log-probabilities, text, vectors. Must not know: tenants, releases, where folders come
from.

    engine > admission (registry, text) > jobs > model_runner (scheduling) > forward | native
                                                 ^ worker: one compute thread per set of weights
    engine > baselines > embedding_batcher, retrieval: floors, encoders and index lookups, without a language model
"""

from __future__ import annotations

from typing import Literal

from tailorbird.inference.engine import TorchEngine
from tailorbird.inference.forward.weights import Precision
from tailorbird.inference.model_converter import TransformersReader
from tailorbird.inference.retrieval import TorchEncoder
from tailorbird.ports.encoder import Encoder
from tailorbird.ports.engine import LocalEngine
from tailorbird.ports.model_reader import ModelReader

__all__ = ["open_encoder", "open_engine", "open_model_reader"]


def open_engine(precision: Precision = "auto") -> LocalEngine:
    """An engine with nothing loaded, safe to call from several threads. ``auto`` takes bf16 where the processor multiplies it faster."""
    return TorchEngine(precision)


def open_encoder() -> Encoder:
    """An encoder with nothing read yet."""
    return TorchEncoder()


def open_model_reader(precision: Literal["fp32", "bf16"] = "fp32") -> ModelReader:
    """A reader that keeps converted weights in ``precision``."""
    return TransformersReader(precision)
