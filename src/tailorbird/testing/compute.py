"""In-memory twin of a cluster: nodes are numbers, each task is a process of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from tailorbird.domain.compute import ComputeNode, StepNeed
from tailorbird.domain.errors import Unavailable

#: Seconds between two looks for room on a node.
_LOOK = 0.02


class ProcessTask:
    """Implements ``PlacedTask``."""

    def __init__(self, cluster: ProcessCompute, task: str, need: StepNeed) -> None:
        self.need = need
        self.node: ComputeNode | None = None
        self._cluster = cluster
        self._task = task
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._answer: str | None = None
        self._cancelled = False

    def start(self, node: ComputeNode) -> None:
        """Begins on ``node``."""
        self.node = node
        self._pipe, theirs = self._cluster.context.Pipe(duplex=False)
        self._process = self._cluster.context.Process(target=_run, args=(self._cluster.work, self._task, theirs))
        self._process.start()
        theirs.close()

    @property
    def runs(self) -> bool:
        """True while its process lives."""
        self._read()
        return self._process is not None and self._process.is_alive()

    @property
    def waits(self) -> bool:
        """True until it begins."""
        return self.node is None and not self._cancelled

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
        if self._process is not None and self._process.pid is not None:
            os.kill(self._process.pid, signal.SIGINT)

    def kill(self) -> None:
        """Ends its process at once."""
        if self._process is not None:
            self._process.kill()
            self._process.join()

    def _read(self) -> None:
        try:
            if self._answer is None and self._pipe is not None and self._pipe.poll():
                self._answer = self._pipe.recv_bytes().decode()
        except EOFError:
            self._pipe = None


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
        taken = [task.need for task in self._tasks if task.node == node and task.runs]
        return node.model_copy(
            update={
                "cores": node.cores - sum(need.cores for need in taken),
                "memory_gb": node.memory_gb - sum(need.memory_gb for need in taken),
                "gpus": node.gpus - sum(need.gpus for need in taken),
            }
        )


def _run(work: Callable[[str], str], task: str, answer: Connection) -> None:
    answer.send_bytes(work(task).encode())
