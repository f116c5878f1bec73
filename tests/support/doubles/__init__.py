"""In-memory doubles of the ports: deterministic, without durability, with every error that the port promises."""

from support.doubles.endpoint import MemoryEndpoint
from support.doubles.engine import MemoryEncoder, MemoryEngine
from support.doubles.model_reader import MemoryModelReader
from support.doubles.observers import FixedClock, MemoryNotifier, MemoryTracker
from support.doubles.trainer import MemoryTrainer

__all__ = [
    "FixedClock",
    "MemoryEncoder",
    "MemoryEndpoint",
    "MemoryEngine",
    "MemoryModelReader",
    "MemoryNotifier",
    "MemoryTracker",
    "MemoryTrainer",
]
