"""Inference engine: label scoring, generation, retrieval, and many adapters on one base model. Beside training the only package with torch.

In: servables (verified folders) and messages. Out: log-probabilities, text, vectors. Must not know: tenants, releases, where folders come
from.

    engine > admission (registry, text) > jobs > model_runner (scheduling) > forward | native
                                                 ^ worker: one compute thread per set of weights
    engine > floors, retrieval: floors, encoders and index lookups, without a language model
"""

from __future__ import annotations

from tailorbird.inference.engine import TorchEngine
from tailorbird.inference.forward.weights import Precision
from tailorbird.inference.forward_factory import Kernels
from tailorbird.inference.model_converter import TransformersReader
from tailorbird.inference.retrieval import TorchEncoder
from tailorbird.inference.worker import KV_MB
from tailorbird.ports.encoder import Encoder
from tailorbird.ports.engine import LocalEngine
from tailorbird.ports.model_reader import ModelReader
from tailorbird.system.process import limit_primitive_cache

__all__ = ["open_encoder", "open_engine", "open_model_reader"]


def open_engine(
    precision: Precision = "auto",
    kernels: Kernels = "auto",
    *,
    memory_mb: int = 0,
    kv_mb: int = KV_MB,
) -> LocalEngine:
    """An engine with nothing loaded, safe to call from several threads.

    ``precision``: ``auto`` is bf16 where the processor multiplies it faster. ``kernels``: ``auto`` is the native pass where it can be had.
    ``memory_mb`` is for weights (0: half of the machine's memory, three quarters of a GPU's), ``kv_mb`` for keys and values of each set
    of weights.
    """
    limit_primitive_cache()
    return TorchEngine(precision, kernels, memory_mb=memory_mb, kv_mb=kv_mb)


def open_encoder() -> Encoder:
    """An encoder with nothing read yet."""
    limit_primitive_cache()
    return TorchEncoder()


def open_model_reader() -> ModelReader:
    """A reader that keeps converted weights of decoders in fp32."""
    limit_primitive_cache()
    return TransformersReader()
