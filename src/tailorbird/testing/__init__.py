"""In-memory doubles of the ports: deterministic, without durability, with every error that the port promises."""

from tailorbird.testing.artifacts import MemoryArtifacts
from tailorbird.testing.compute import ProcessCompute
from tailorbird.testing.endpoint import MemoryEndpoint
from tailorbird.testing.engine import MemoryEncoder, MemoryEngine
from tailorbird.testing.ledger import MemoryLedger, MemoryStore
from tailorbird.testing.model_reader import MemoryModelReader
from tailorbird.testing.observers import FixedClock, MemoryNotifier, MemoryTracker
from tailorbird.testing.trainer import MemoryTrainer

__all__ = [
    "FixedClock",
    "MemoryArtifacts",
    "MemoryEncoder",
    "MemoryEndpoint",
    "MemoryEngine",
    "MemoryLedger",
    "MemoryModelReader",
    "MemoryNotifier",
    "MemoryStore",
    "MemoryTracker",
    "MemoryTrainer",
    "ProcessCompute",
]
