"""Runs models in this process: label scoring, generation, many adapters on one base. The other place, beside training, where torch lives.

In: servables (folders that were verified) and messages. Out: log-probabilities and text. Must not know: tenants, releases, where folders
come from.
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
