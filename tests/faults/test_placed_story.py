"""The story with its steps on the nodes of a cluster: it ends as it does without one, whatever dies meanwhile. On the twin, and on Ray
(``make ray``)."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest

from support.doubles import ProcessCompute
from support.faults import Desk, Ending, ending_of, opened
from support.placed_tasks import twin_step
from tailorbird.domain.errors import Exhausted, Forbidden, InvalidInput, TailorbirdError
from tailorbird.domain.run import ComputeNode, RunState
from tailorbird.ports.compute import Compute
from tailorbird.settings import load_settings
from tailorbird.usecases import Dependencies, Progress
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.runs import placement
from tailorbird.usecases.runs import submit as climbing

pytestmark = pytest.mark.usefixtures("twins")
#: On the twin among the slow tests: about half a minute each. ``test_placed_faults.py`` has what is cheap.
_SLOWLY = pytest.mark.parametrize(
    "cluster", [pytest.param("twin", marks=pytest.mark.slow), pytest.param("ray", marks=pytest.mark.ray)], indirect=True
)
_FORKS = multiprocessing.get_context("forkserver")
#: A kill on either side of a step's commit, for steps of each kind: the first loses the step, the second must not.
KILLS = ("before the commit of plan", "in the commit of make prompt", "after the commit of measure prompt", "before the commit of test")


def node(host: str = "a", **has: object) -> ComputeNode:
    return ComputeNode.model_validate({"host": host, "cores": 1, "memory_gb": 8.0, "here": True} | has)


@pytest.fixture(params=["twin", pytest.param("ray", marks=pytest.mark.ray)])
def cluster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Compute:
    """Two nodes that do steps with twins of what needs torch."""
    monkeypatch.setattr(placement, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(placement, "time", SimpleNamespace(sleep=lambda _: time.sleep(0.05)))
    if request.param == "twin":
        return ProcessCompute(twin_step, [node("a"), node("b")], _FORKS)
    address = request.getfixturevalue("raylets").address  # before Ray is loaded: it reads then whether it needs a token
    from tailorbird.integrations.ray import RayCompute

    return RayCompute(address, "support.placed_tasks:twin_step")


@contextmanager
def placing(desk: Desk, cluster: Compute) -> Iterator[Dependencies]:
    """The workspace, whose steps the cluster does."""
    with opened(desk) as deps:
        yield replace(deps, compute=lambda: cluster)


def adapt(desk: Desk, cluster: Compute, tell: Callable[[str], None] = lambda _: None) -> None:
    with placing(desk, cluster) as deps:
        climbing.adapt(deps, act_as(deps, "acme", "author"), desk.objective, Progress(tell=tell))


def refused(desk: Desk, cluster: Compute, kind: type[TailorbirdError]) -> TailorbirdError:
    with pytest.raises(kind) as caught:
        adapt(desk, cluster)
    return caught.value


def test_a_story_on_nodes_ends_as_it_does_without(
    desk: Desk, cluster: Compute, undisturbed: Ending, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key of an identity, too: what signs is done where the run was started. What a cluster keeps and shows of a task is what it
    was given: names, and nothing else."""
    told, given, place = list[str](), list[str](), cluster.place
    monkeypatch.setattr(cluster, "place", lambda task, need: (given.append(task), place(task, need))[1])
    keys = desk.workspace / "keys" / "acme"
    secret = (keys / "author.key").read_text().splitlines()[1]
    with placing(desk, cluster) as deps:
        author = act_as(deps, "acme", "author")
        keys.rename(keys.with_name("away"))
        climbing.adapt(deps, author, desk.objective, Progress(tell=told.append))
        keys.with_name("away").rename(keys)
    assert ending_of(desk) == undisturbed
    asked = [line for line in told if line.startswith("asking the cluster for 1 core, ") and line.endswith(" GiB")]
    assert len(asked) == len(given), "each step takes memory, too"
    assert any(line.endswith("does the step") for line in told)
    assert [line.removeprefix("step ") for line in told if line.startswith("step ")] == list(undisturbed.steps)
    assert len(given) < len(undisturbed.steps) - 1, "a process goes on with what takes no more"
    assert all(json.loads(task).keys() == placement.StepTask.model_fields.keys() for task in given)
    assert not [word for word in (load_settings(desk.workspace).database_url, secret, "refund") if word in "".join(given)]


@_SLOWLY
def test_processes_of_nodes_that_die_lose_nothing_that_was_done(desk: Desk, cluster: Compute, undisturbed: Ending) -> None:
    """Each has the step done again, unless it was committed; the process that waits for it goes on."""
    told, kills = list[str](), desk.workspace / "kills"
    kills.write_text("\n".join(KILLS))
    adapt(desk, cluster, told.append)
    assert ending_of(desk) == undisturbed
    assert kills.read_text() == ""
    assert sum(line.endswith("the step is done again") for line in told) == len(KILLS)


def test_a_step_that_no_node_holds_is_refused_with_what_it_takes(desk: Desk) -> None:
    small = ProcessCompute(twin_step, [node(memory_gb=0.001)], _FORKS)
    error = refused(desk, small, Exhausted)
    assert error.error_code == "step_too_large"
    assert "and no node has that: the largest has 1 core, 0.0 GiB" in error.message
    with opened(desk) as deps, deps.ledger.work("acme", write=False) as work:
        (run,) = work.runs.all()
        failed = next(step for step in work.steps.of(run.id) if step.error)
    assert run.state is RunState.FAILED
    assert (failed.error, failed.message, failed.hint) == ("step_too_large", error.message, error.hint)
    with placing(desk, ProcessCompute(twin_step, [node()], _FORKS)) as deps:
        again = climbing.submit(deps, act_as(deps, "acme", "author"), desk.objective, RunState.ACTIVE)
    assert again.state is RunState.ACTIVE


def test_a_record_in_a_file_is_not_shared_with_other_machines(desk: Desk) -> None:
    error = refused(desk, ProcessCompute(twin_step, [node("a"), node("far", here=False)], _FORKS), InvalidInput)
    assert error.error_code == "invalid_input"
    assert "far" in error.message


@pytest.mark.parametrize("here", [True, False])
def test_a_cluster_that_others_reach_asks_for_a_token(desk: Desk, here: bool) -> None:
    """One of this machine alone, too: its ports are open on the network."""
    open_to_all = ProcessCompute(twin_step, [node("a", here=here)], _FORKS, protected=False)
    with placing(desk, open_to_all) as deps:
        shared = replace(deps, upkeep=replace(deps.upkeep, record_file=None))
        with pytest.raises(Forbidden) as caught:
            climbing.adapt(shared, act_as(deps, "acme", "author"), desk.objective, Progress())
    assert caught.value.error_code == "cluster_open"
