"""In-memory twin of a cluster: nodes are numbers, tasks are done by processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from tailorbird.domain.errors import Unavailable
from tailorbird.domain.run import ComputeNode, StepNeed

#: Seconds between two looks for room on a node.
_LOOK = 0.02


class ProcessTask:
    """Implements ``PlacedTask``."""

    def __init__(self, cluster: ProcessCompute, task: str, need: StepNeed) -> None:
        self.need = need
        self.node: ComputeNode | None = None
        self._cluster, self._task = cluster, task
        self._process: Any = None
        self._pipe: Connection | None = None
        self._answer: str | None = None
        self._cancelled = False

    def start(self, node: ComputeNode) -> None:
        """Begins on ``node``."""
        self._pipe, theirs = self._cluster.context.Pipe(duplex=False)
        self._process = self._cluster.context.Process(target=_do, args=(self._cluster.work, self._task, theirs))
        self._process.start()
        theirs.close()
        self.node = node

    @property
    def runs(self) -> bool:
        """True while it is done."""
        if self._process is None or self._answer is not None:
            return False
        lives = bool(self._process.is_alive())
        with suppress(EOFError, OSError):
            if self._pipe is not None and self._pipe.poll():
                self._answer = self._pipe.recv_bytes().decode()
                self._process.join()
        return lives and self._answer is None

    @property
    def waits(self) -> bool:
        """True until it begins."""
        return self._process is None and not self._cancelled

    def ended(self, seconds: float) -> bool:
        """Waits for its end, at most so long."""
        until = time.monotonic() + seconds
        while True:
            self._cluster.schedule()
            if not self.waits and not self.runs:
                return True
            if time.monotonic() >= until:
                return False
            time.sleep(_LOOK)

    def answer(self) -> str:
        """What the function answered. Raises Unavailable (``node_lost``, ``step_interrupted``)."""
        if self._answer is not None:
            return self._answer
        if self._cancelled:
            raise Unavailable("the step was interrupted", "adapt again: it goes on where it stopped", code="step_interrupted")
        raise Unavailable("the process that did the step is gone", "the step is done again once its lease has run out", code="node_lost")

    def cancel(self) -> None:
        """Interrupts its process."""
        if not self.waits and not self.runs:
            return
        self._cancelled = True
        if self._process is not None:
            os.kill(int(self._process.pid), signal.SIGINT)

    def kill(self) -> None:
        """Ends its process at once."""
        self._process.kill()
        self._process.join()


class ProcessCompute:
    """Implements ``Compute`` with processes of ``context``; nodes die when a test says so."""

    def __init__(self, work: Callable[[str], str], nodes: Sequence[ComputeNode], context: Any = None, *, protected: bool = True) -> None:
        self.work = work
        self.context = context or multiprocessing.get_context("spawn")
        self.protected = protected
        self._nodes = list(nodes)
        self._tasks = list[ProcessTask]()

    def nodes(self) -> tuple[ComputeNode, ...]:
        """The living nodes. Raises Unavailable when none is left."""
        if not self._nodes:
            raise Unavailable("the cluster cannot be reached", "see that it runs", code="compute_unreachable")
        return tuple(self._nodes)

    def place(self, task: str, need: StepNeed) -> ProcessTask:
        """Starts the task, or has it wait for room."""
        placed = ProcessTask(self, task, need)
        self._tasks.append(placed)
        self.schedule()
        return placed

    def schedule(self) -> None:
        """Starts the tasks that wait and for which there is room."""
        for task in [task for task in self._tasks if task.waits]:
            node = next((node for node in self._nodes if self._left(node).holds(task.need)), None)
            if node is not None:
                task.start(node)

    def lose(self, host: str) -> None:
        """The node is gone, with all that is done there."""
        self._nodes = [node for node in self._nodes if node.host != host]
        for task in self._tasks:
            if task.node is not None and task.node.host == host:
                task.kill()

    def _left(self, node: ComputeNode) -> ComputeNode:
        """What a node has beside what is done there."""
        taken = [task.need for task in self._tasks if task.node == node and task.runs]
        return node.model_copy(
            update={
                "cores": node.cores - sum(need.cores for need in taken),
                "memory_gb": node.memory_gb - sum(need.memory_gb for need in taken),
                "gpus": node.gpus - sum(need.gpus for need in taken),
            }
        )


def _do(work: Callable[[str], str], task: str, answers: Connection) -> None:
    answers.send_bytes(work(task).encode())
