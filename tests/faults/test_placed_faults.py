"""What goes wrong with a step that a node was given, told as it would be told here. The node is this process: nothing is started."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from support.faults import Desk, Ending, ending_of, opened
from tailorbird.domain.errors import Conflict, Exhausted, Forbidden, InvalidInput, TailorbirdError, Unavailable
from tailorbird.domain.run import ComputeNode, RunState, Step, StepNeed
from tailorbird.processes import worker
from tailorbird.settings import load_settings
from tailorbird.system.files import private_folder
from tailorbird.usecases import Progress
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.runs import engine, placement
from tailorbird.usecases.runs import submit as climbing
from tailorbird.usecases.runs.context import StepContext
from tailorbird.usecases.runs.queries import cancel_run, list_runs

NODE = ComputeNode(host="a", cores=1, memory_gb=8.0, here=True)


def lost(_task: str = "") -> str:
    """A process that dies before it has taken the lease."""
    raise Unavailable("the process that did the step is gone", "h", code="node_lost")


class HereTask:
    """Does its work when it is first looked at, and ends at the third look."""

    def __init__(self, work: Callable[[str], str], task: str) -> None:
        self._work, self._task = work, task
        self._looks = 0
        self._answer: str | TailorbirdError = ""
        self.cancelled = False

    def ended(self, _seconds: float) -> bool:
        self._looks += 1
        if self._looks == 1:
            try:
                self._answer = self._work(self._task)
            except TailorbirdError as error:
                self._answer = error
        return self._looks > 2

    def answer(self) -> str:
        if isinstance(self._answer, TailorbirdError):
            raise self._answer
        return self._answer

    def cancel(self) -> None:
        self.cancelled = True


class HereCompute:
    """Nodes whose process is this one."""

    def __init__(self, work: Callable[[str], str] = worker.perform_step, *nodes: ComputeNode, protected: bool = True) -> None:
        self.work, self.protected = work, protected
        self._nodes = nodes or (NODE,)
        self.given = list[HereTask]()
        self.asked = list[str]()

    def nodes(self) -> tuple[ComputeNode, ...]:
        return self._nodes

    def place(self, task: str, need: StepNeed) -> HereTask:
        assert need.cores == 1
        self.asked.append(json.loads(task)["step"])
        self.given.append(HereTask(self.work, task))
        return self.given[-1]


@pytest.fixture(autouse=True)
def pauses(twins: None, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was paused, instead of pausing."""
    paused = list[float]()
    monkeypatch.setattr(worker, "_compute_with", lambda _threads: None)
    monkeypatch.setattr(engine, "time", SimpleNamespace(sleep=paused.append, monotonic=lambda: 0.0))
    return paused


def adapt(desk: Desk, cluster: HereCompute, tell: Callable[[str], None] = lambda _: None) -> None:
    with opened(desk) as deps:
        climbing.adapt(replace(deps, compute=lambda: cluster), act_as(deps, "acme", "author"), desk.objective, Progress(tell=tell))


def ended(desk: Desk) -> tuple[RunState, Step]:
    """The state of the only run, and its last step."""
    with opened(desk) as deps, deps.ledger.work("acme", write=False) as work:
        (run,) = work.runs.all()
        return run.state, work.steps.of(run.id)[-1]


def failing(code: str) -> Callable[..., object]:
    def handler(*_: object) -> object:
        raise Exhausted("this disk is full", "make room", code=code)

    return handler


def test_a_step_that_fails_on_a_node_tells_its_own_code(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its node has set the run to failed before it answers: neither while it is waited for nor afterwards is that the news."""
    monkeypatch.setattr(engine, "_do", failing("disk_full"))
    cluster = HereCompute()
    with pytest.raises(Exhausted) as caught:
        adapt(desk, cluster)
    assert (caught.value.error_code, caught.value.message, caught.value.hint) == ("disk_full", "this disk is full", "make room")
    assert not cluster.given[0].cancelled
    state, step = ended(desk)
    assert (state, step.error) == (RunState.FAILED, "disk_full")


def test_a_cancelled_run_interrupts_its_step(desk: Desk) -> None:
    def cancelled(_task: str) -> str:
        with opened(desk) as deps:
            author = act_as(deps, "acme", "author")
            cancel_run(deps, author, list_runs(deps, author).runs[0].id)
        return "{}"

    cluster = HereCompute(cancelled)
    with pytest.raises(Conflict) as caught:
        adapt(desk, cluster)
    assert caught.value.error_code == "run_cancelled"
    assert cluster.given[0].cancelled


@pytest.mark.parametrize("work", [lost, lambda _task: "{}"], ids=["dies", "answers having done nothing"])
def test_a_step_that_no_node_begins_is_not_placed_for_ever(desk: Desk, pauses: list[float], work: Callable[[str], str]) -> None:
    cluster = HereCompute(work)
    with pytest.raises(Exhausted) as caught:
        adapt(desk, cluster)
    assert caught.value.error_code == "step_hopeless"
    assert cluster.asked == ["snapshot"] * placement.MOST_FRUITLESS
    assert pauses == [2.0, 4.0, 8.0, 16.0]
    state, step = ended(desk)
    assert (state, step.error) == (RunState.FAILED, "step_hopeless")
    with pytest.raises(Exhausted):
        adapt(desk, cluster)
    assert len(cluster.asked) == 2 * placement.MOST_FRUITLESS, "who adapts again tries again"


def working(context: StepContext, _name: str) -> object:
    """A step that leaves working files, and fails."""
    (private_folder(context.folder) / "checkpoint").write_text("learned")
    return failing("disk_full")()


@pytest.mark.parametrize("shared", [True, False])
def test_working_files_stay_only_in_a_workspace_that_is_shared(
    template: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    """No erasure would look for them in a node's own copy."""
    places = {"database": f"sqlite:///{tmp_path / 'record.db'}", "artifacts": str(tmp_path / "artifacts")}
    desk = Desk.new(tmp_path / "home", template.objective, **places)
    node = desk if shared else desk.copy(tmp_path / "node")
    monkeypatch.setattr(engine, "_do", working)

    def work(task: str) -> str:
        return worker.perform_step(json.dumps(json.loads(task) | {"workspace": str(node.workspace)}))

    with pytest.raises(Exhausted) as caught:
        adapt(desk, HereCompute(work))
    assert caught.value.error_code == "disk_full"
    assert [path.name for path in (node.workspace / "runs").rglob("*") if path.is_file()] == (["checkpoint"] if shared else [])


def test_a_step_that_no_node_holds_is_refused_with_what_it_takes(desk: Desk) -> None:
    with pytest.raises(Exhausted) as caught:
        adapt(desk, HereCompute(worker.perform_step, NODE.model_copy(update={"memory_gb": 0.001})))
    assert caught.value.error_code == "step_too_large"
    assert "and no node has that: the largest has 1 core, 0.0 GiB" in caught.value.message
    state, step = ended(desk)
    assert (state, step.error) == (RunState.FAILED, "step_too_large")


def test_a_record_in_a_file_is_not_shared_with_other_machines(desk: Desk) -> None:
    with pytest.raises(InvalidInput, match="far") as caught:
        adapt(desk, HereCompute(worker.perform_step, NODE, NODE.model_copy(update={"host": "far", "here": False})))
    assert caught.value.error_code == "invalid_input"


@pytest.mark.parametrize("here", [True, False])
def test_a_cluster_that_others_reach_asks_for_a_token(desk: Desk, here: bool) -> None:
    """One of this machine alone, too: its ports are open on the network."""
    open_to_all = HereCompute(worker.perform_step, NODE.model_copy(update={"here": here}), protected=False)
    with opened(desk) as deps:
        shared = replace(deps, compute=lambda: open_to_all, upkeep=replace(deps.upkeep, record_file=None))
        with pytest.raises(Forbidden) as caught:
            climbing.adapt(shared, act_as(deps, "acme", "author"), desk.objective, Progress())
    assert caught.value.error_code == "cluster_open"


def test_a_story_on_nodes_ends_as_it_does_without(desk: Desk, undisturbed: Ending, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key of an identity, too: what signs is done where the run was started. What a cluster keeps and shows of a task is what it
    was given: names, and nothing else."""
    monkeypatch.setattr(engine, "resident_gib", lambda: 0.0)  # a node's process is young; that of the tests holds what went before
    told, given, cluster = list[str](), list[str](), HereCompute()
    cluster.work = lambda task: (given.append(task), worker.perform_step(task))[1]
    keys = desk.workspace / "keys" / "acme"
    secret = (keys / "author.key").read_text().splitlines()[1]
    with opened(desk) as deps:
        author = act_as(deps, "acme", "author")
        keys.rename(keys.with_name("away"))
        climbing.adapt(replace(deps, compute=lambda: cluster), author, desk.objective, Progress(tell=told.append))
        keys.with_name("away").rename(keys)
    assert ending_of(desk) == undisturbed
    assert [line.removeprefix("step ") for line in told if line.startswith("step ")] == list(undisturbed.steps)
    assert len(given) < len(undisturbed.steps) - 1, "a process goes on with what takes no more"
    assert all(json.loads(task).keys() == placement.StepTask.model_fields.keys() for task in given)
    assert not [word for word in (load_settings(desk.workspace).database_url, secret, "refund") if word in "".join(given)]
