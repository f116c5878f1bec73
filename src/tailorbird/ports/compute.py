"""A cluster that does steps: it chooses the node and starts a process there.

In: a task, as text, and what it takes of a node. Out: the text that the function of the cluster answers. Must not know: what a step is, and
which one may run: the record says that. Neither task nor answer holds a secret or the text of a row: a cluster may keep and show both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tailorbird.domain.run import ComputeNode, StepNeed


class PlacedTask(Protocol):
    """A task that waits for room on a node, or is done there, or has ended."""

    def ended(self, seconds: float) -> bool:
        """Waits for its end, at most so long; True once it has ended. Raises Unavailable (``compute_unreachable``)."""
        ...

    def answer(self) -> str:
        """What the function answered, once the task has ended. Raises Unavailable: ``node_lost`` when its process or its node is gone,
        ``step_interrupted`` when it was cancelled, ``compute_unreachable``."""
        ...

    def cancel(self) -> None:
        """Interrupts it, as Ctrl-C would; one that waits never begins. Does nothing when it has ended. Raises Unavailable
        (``compute_unreachable``)."""
        ...


class Compute(Protocol):
    """A cluster. Each task is done once: it is never tried again without being asked for."""

    @property
    def protected(self) -> bool:
        """True where only this machine reaches the cluster, or whoever asks it for work must prove that they may. Raises Unavailable
        (``compute_unreachable``)."""
        ...

    def nodes(self) -> Sequence[ComputeNode]:
        """The living nodes. Raises Unavailable (``compute_unreachable``)."""
        ...

    def place(self, task: str, need: StepNeed) -> PlacedTask:
        """Asks for ``task`` to be done on a node that has ``need`` free, as soon as there is one, by a process of its own: ``need`` is
        booked until it has ended. Raises Unavailable (``compute_unreachable``)."""
        ...
