"""In-memory twins of the ports: small, deterministic, honest about every error the port promises. They keep no promise of durability."""

from tailorbird.integrations.memory.artifacts import MemoryArtifacts
from tailorbird.integrations.memory.clock import FixedClock
from tailorbird.integrations.memory.encoder import MemoryEncoder
from tailorbird.integrations.memory.engine import MemoryEngine
from tailorbird.integrations.memory.model_reader import MemoryModelReader
from tailorbird.integrations.memory.notifier import MemoryNotifier
from tailorbird.integrations.memory.tracker import MemoryTracker
from tailorbird.integrations.memory.trainer import MemoryTrainer

__all__ = [
    "FixedClock",
    "MemoryArtifacts",
    "MemoryEncoder",
    "MemoryEngine",
    "MemoryModelReader",
    "MemoryNotifier",
    "MemoryTracker",
    "MemoryTrainer",
]
