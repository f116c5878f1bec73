"""Help of idle nodes, as the process that asks sees it: asked for once for each node, told where it fails, over with the run."""

from __future__ import annotations

from typing import Any

import pytest

from tailorbird.domain.compute import ComputeNode, StepNeed
from tailorbird.domain.errors import Exhausted, TailorbirdError, Unavailable
from tailorbird.domain.objective import TaskKind
from tailorbird.usecases.runs import answer_help
from tailorbird.usecases.runs.answer_help import Helpers, run_helpers
from tailorbird.usecases.runs.step_placement import HelpTask, StepAnswer, StepFault, StepTask

NEED = StepNeed(cores=1, memory_gb=1.0)
TASK = StepTask(
    workspace="/w",
    settings="sha256:" + "0" * 64,
    tenant="acme",
    actor="author",
    run="r1",
    step="measure p",
    cores=1,
    mark=f"placed-{'0' * 32}",
)


class Task:
    """One that ends when a test says how."""

    def __init__(self) -> None:
        self.end: str | TailorbirdError | None = None
        self.cancelled = False

    def ended(self, _seconds: float) -> bool:
        return self.end is not None or self.cancelled

    def answer(self) -> str:
        assert self.end is not None
        if isinstance(self.end, TailorbirdError):
            raise self.end
        return self.end

    def cancel(self) -> None:
        self.cancelled = True


class Cluster:
    """Three nodes, of which so many are idle."""

    def __init__(self, idle: int) -> None:
        self.idle = idle
        self.asked = list[tuple[HelpTask, StepNeed, str]]()
        self.tasks = list[Task]()

    def nodes(self) -> list[ComputeNode]:
        return [ComputeNode(host=name, cores=1, memory_gb=8.0) for name in "abc"]

    def place_aside(self, task: str, need: StepNeed, purpose: str) -> Task | None:
        if not self.idle:
            return None
        self.idle -= 1
        self.asked.append((HelpTask.model_validate_json(task), need, purpose))
        self.tasks.append(Task())
        return self.tasks[-1]


class Context:
    """A step's context, as far as it is asked."""

    def __init__(self) -> None:
        self.told = list[str]()
        self.plan = None

    @property
    def progress(self) -> Any:
        return type("Progress", (), {"tell": staticmethod(self.told.append)})

    @property
    def objective(self) -> Any:
        return type("Objective", (), {"task": type("Task", (), {"kind": TaskKind.CLASSIFY})})


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(answer_help, "is_helped", lambda *_: True)
    monkeypatch.setattr(answer_help, "rows_by_group", lambda _: {})
    monkeypatch.setattr(answer_help, "parts_of", lambda _: ("one", "two", "three"))
    return Context()


def test_each_idle_node_is_asked_once_for_a_step(context: Any) -> None:
    nodes, cluster = Helpers(), Cluster(1)
    ask = nodes.beside(context, cluster, TASK, NEED)  # type: ignore[arg-type]
    ask(False)
    assert cluster.asked == [], "nobody holds the step"
    for _ in range(3):
        ask(True)
    assert len(cluster.asked) == 1
    cluster.idle = 5
    for _ in range(3):
        ask(True)
    assert [(task.number, task.among, need, purpose) for task, need, purpose in cluster.asked] == [
        (0, 2, NEED, "acme/r1/answers"),
        (1, 2, NEED, "acme/r1/answers"),
    ], "one node does the step"
    assert len(context.told) == 2


def test_who_cannot_help_is_told_and_not_asked_again_for_the_step(context: Any) -> None:
    nodes, cluster = Helpers(), Cluster(2)
    ask = nodes.beside(context, cluster, TASK, NEED)  # type: ignore[arg-type]
    ask(True)
    ask(True)
    cluster.tasks[0].end = Unavailable("the process is gone", "h", code="node_lost")
    fault = StepFault.of(Exhausted("the quota is used up", "h", code="quota_storage"))
    cluster.tasks[1].end, cluster.idle = StepAnswer(fault=fault).model_dump_json(), 2
    ask(True)
    assert context.told[2:] == [
        "a node that helped does so no more: the process is gone",
        "a node that helped does so no more: the quota is used up",
    ]
    assert (len(cluster.asked), nodes.tasks) == (2, [])
    nodes.beside(context, cluster, TASK, NEED)(True)  # type: ignore[arg-type]
    assert len(cluster.asked) == 3, "for the next one it is"
    cluster.tasks[2].end = "no answer of ours"
    nodes.look()
    assert context.told[-1] == "a node that helped does so no more: its answer cannot be read"


def test_help_that_ends_well_is_not_told(context: Any) -> None:
    nodes, cluster = Helpers(), Cluster(1)
    nodes.beside(context, cluster, TASK, NEED)(True)  # type: ignore[arg-type]
    cluster.tasks[0].end = StepAnswer().model_dump_json()
    nodes.look()
    assert (len(context.told), nodes.tasks) == (1, [])


def test_whoever_helps_ends_with_the_run(context: Any) -> None:
    cluster = Cluster(2)

    def interrupted() -> None:
        with run_helpers() as nodes:
            ask = nodes.beside(context, cluster, TASK, NEED)  # type: ignore[arg-type]
            ask(True)
            ask(True)
            cluster.tasks[0].end = StepAnswer().model_dump_json()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [task.cancelled for task in cluster.tasks] == [False, True]


def test_few_items_ask_for_nobody(context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_help, "parts_of", lambda _: ("one",))
    cluster = Cluster(2)
    Helpers().beside(context, cluster, TASK, NEED)(True)  # type: ignore[arg-type]
    assert cluster.asked == []
