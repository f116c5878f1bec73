"""Compute: the nodes of a cluster, and what one step takes of a node."""

from __future__ import annotations

from pydantic import Field

from tailorbird.domain.value import Value


class StepNeed(Value):
    """What one step takes of a node while it is done. ``memory_gb`` (GiB of the whole process) is 0 where no plan foresees it."""

    cores: int = Field(ge=1)
    memory_gb: float = Field(default=0.0, ge=0)
    gpus: int = Field(default=0, ge=0)

    @property
    def words(self) -> str:
        """As people read it: ``2 cores, 3.1 GiB``."""
        parts = [f"{self.cores} {'core' if self.cores == 1 else 'cores'}"]
        parts += [f"{self.memory_gb:.1f} GiB"] if self.memory_gb else []
        parts += [f"{self.gpus} {'GPU' if self.gpus == 1 else 'GPUs'}"] if self.gpus else []
        return ", ".join(parts)

    def holds(self, other: StepNeed) -> bool:
        """True where a process that has this can go on with what takes ``other``: by as many threads, and without a GPU."""
        return other.cores == self.cores and other.memory_gb <= self.memory_gb and not (other.gpus or self.gpus)


class ComputeNode(Value):
    """A living node: what it has in all, whoever uses it now (memory in GiB). ``here``: it is on this machine."""

    host: str
    cores: int
    memory_gb: float
    gpus: int = 0
    here: bool = False

    def holds(self, need: StepNeed) -> bool:
        """True when the step fits on the node while nothing else is done there."""
        return need.cores <= self.cores and need.memory_gb <= self.memory_gb and need.gpus <= self.gpus
