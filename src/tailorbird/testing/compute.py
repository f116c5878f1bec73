"""In-memory twin of a cluster: nodes are numbers, tasks are done by processes of this machine."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from tailorbird.domain.compute import ComputeNode, StepNeed, TaskEnd
from tailorbird.domain.errors import Unavailable

#: Seconds between two looks for room on a node.
_LOOK = 0.02


class NodeProcess:
    """A process on ``node`` that does tasks of ``key``, a purpose and a number of cores, one after another."""

    def __init__(self, cluster: ProcessCompute, node: ComputeNode, key: tuple[str, int]) -> None:
        self.node, self.key = node, key
        ends: tuple[Connection, Connection] = cluster.context.Pipe()
        self._pipe, theirs = ends
        seconds = cluster.idle_seconds if key[0] else None
        self._process: Any = cluster.context.Process(target=_serve, args=(cluster.work, theirs, seconds))
        self._process.start()
        theirs.close()

    @property
    def lives(self) -> bool:
        """True until it has ended."""
        return bool(self._process.is_alive())

    def begin(self, task: str) -> bool:
        """Has it do a task; False where it ended meanwhile."""
        try:
            self._pipe.send_bytes(task.encode())
        except OSError:
            return False
        return True

    def answer(self) -> TaskEnd | None:
        """What it answered, once it has."""
        try:
            return TaskEnd(*json.loads(self._pipe.recv_bytes())) if self._pipe.poll() else None
        except (EOFError, OSError):
            return None

    def interrupt(self) -> None:
        """As Ctrl-C would."""
        os.kill(int(self._process.pid), signal.SIGINT)

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()
        self._process.join()


class ProcessTask:
    """Implements ``PlacedTask``."""

    def __init__(self, cluster: ProcessCompute, task: str, need: StepNeed, purpose: str) -> None:
        self.need, self.purpose = need, purpose
        self.process: NodeProcess | None = None
        self._cluster = cluster
        self._task = task
        self._answer: str | None = None
        self._cancelled = False

    def start(self, node: ComputeNode) -> None:
        """Begins on ``node``, in a process that is kept there for its purpose, or in a new one; the others that are kept there end."""
        kept = self._cluster.take_idle(node, (self.purpose, self.need.cores)) if self.purpose else None
        self._cluster.end_idle(node)
        if kept is None or not kept.begin(self._task):
            kept = NodeProcess(self._cluster, node, (self.purpose, self.need.cores))
            kept.begin(self._task)
        self.process = kept

    @property
    def runs(self) -> bool:
        """True while it is done."""
        if self.process is None or self._answer is not None:
            return False
        lives, end = self.process.lives, self.process.answer()
        if end is None:
            return lives
        self._answer = end.text
        if end.keeps and self.purpose and not self.need.gpus and not self._cancelled:
            self._cluster.idle.append(self.process)
        return False

    @property
    def waits(self) -> bool:
        """True until it begins."""
        return self.process is None and not self._cancelled

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
        if self.process is not None:
            self.process.interrupt()


class ProcessCompute:
    """Implements ``Compute`` with processes of ``context``; nodes die when a test says so."""

    def __init__(
        self,
        work: Callable[[str], TaskEnd],
        nodes: Sequence[ComputeNode],
        context: Any = None,
        *,
        protected: bool = True,
        idle_seconds: float = 10.0,
    ) -> None:
        self.work = work
        self.context = context or multiprocessing.get_context("spawn")
        self.protected = protected
        self.idle_seconds = idle_seconds
        self.idle = list[NodeProcess]()
        self._nodes = list(nodes)
        self._tasks = list[ProcessTask]()

    def nodes(self) -> tuple[ComputeNode, ...]:
        """The living nodes. Raises Unavailable when none is left."""
        if not self._nodes:
            raise Unavailable("the cluster cannot be reached", "see that it runs", code="compute_unreachable")
        return tuple(self._nodes)

    def place(self, task: str, need: StepNeed, purpose: str = "") -> ProcessTask:
        """Starts the task, or has it wait for room."""
        placed = ProcessTask(self, task, need, purpose if not need.gpus else "")
        self._tasks.append(placed)
        self.schedule()
        return placed

    def schedule(self) -> None:
        """Starts the tasks that wait and for which there is room; where a process is kept for one, there rather than elsewhere."""
        for task in [task for task in self._tasks if task.waits]:
            kept = [process.node for process in self.idle if process.key == (task.purpose, task.need.cores)]
            nodes = sorted(self._nodes, key=lambda node: node not in kept)
            node = next((node for node in nodes if self._left(node).holds(task.need)), None)
            if node is not None:
                task.start(node)

    def take_idle(self, node: ComputeNode, key: tuple[str, int]) -> NodeProcess | None:
        """A living process that is kept on ``node`` for ``key``; the caller has it."""
        self.idle = [process for process in self.idle if process.lives]
        found = next((process for process in self.idle if (process.node, process.key) == (node, key)), None)
        if found is not None:
            self.idle.remove(found)
        return found

    def end_idle(self, node: ComputeNode) -> None:
        """Ends the processes that are kept on ``node``: nothing is booked for what they hold."""
        for process in [process for process in self.idle if process.node == node]:
            self.idle.remove(process)
            process.kill()

    def lose(self, host: str) -> None:
        """The node is gone, with all that is done there."""
        self._nodes = [node for node in self._nodes if node.host != host]
        for process in [*self.idle, *(task.process for task in self._tasks if task.process is not None)]:
            if process.node.host == host:
                process.kill()

    def _left(self, node: ComputeNode) -> ComputeNode:
        taken = [task.need for task in self._tasks if task.process is not None and task.process.node == node and task.runs]
        return _less(node, taken)


def _less(node: ComputeNode, taken: Sequence[StepNeed]) -> ComputeNode:
    """What a node has beside ``taken``."""
    return node.model_copy(
        update={
            "cores": node.cores - sum(need.cores for need in taken),
            "memory_gb": node.memory_gb - sum(need.memory_gb for need in taken),
            "gpus": node.gpus - sum(need.gpus for need in taken),
        }
    )


def _serve(work: Callable[[str], TaskEnd], tasks: Connection, idle_seconds: float | None) -> None:
    """Does one task; others after it, where it is kept, until one does not keep it or none has come for so long."""
    keeps = True
    with suppress(EOFError):
        while keeps:
            end = work(tasks.recv_bytes().decode())
            tasks.send_bytes(json.dumps(end).encode())
            keeps = idle_seconds is not None and end.keeps and tasks.poll(idle_seconds)
