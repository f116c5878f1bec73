"""What every cluster must do: the twin, and Ray on two raylets (``make ray``)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.placed_tasks import plain
from support.ray_cluster import await_end
from tailorbird.domain.compute import ComputeNode, StepNeed
from tailorbird.domain.errors import TailorbirdError, Unavailable
from tailorbird.ports.compute import Compute, PlacedTask
from tailorbird.testing import ProcessCompute

ONE = StepNeed(cores=1)


@pytest.fixture(params=["twin", pytest.param("ray", marks=pytest.mark.ray)])
def open_cluster(request: pytest.FixtureRequest) -> Callable[[float], Compute]:
    """Opens two nodes of one core each, of this machine, whose processes wait so many seconds for a next task."""
    if request.param == "twin":
        nodes = [ComputeNode(host=name, cores=1, memory_gb=6, here=True) for name in ("a", "b")]
        return lambda seconds: ProcessCompute(plain, nodes, idle_seconds=seconds)
    address = request.getfixturevalue("raylets").address  # before Ray is loaded: it reads then whether it needs a token
    from tailorbird.integrations.ray import open_ray

    return lambda seconds: open_ray(address, plain, seconds)


@pytest.fixture
def cluster(open_cluster: Callable[[float], Compute]) -> Compute:
    return open_cluster(30.0)


def finished(task: PlacedTask, seconds: float = 60) -> PlacedTask:
    assert task.ended(seconds), "the task does not end"
    return task


def await_text(file: Path, text: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not file.exists() or file.read_text() != text:
        assert time.monotonic() < deadline, f"{file} does not say {text}"
        time.sleep(0.05)


def test_nodes_tell_what_they_have(cluster: Compute) -> None:
    assert [(node.cores, round(node.memory_gb), node.gpus, node.here) for node in cluster.nodes()] == [(1, 6, 0, True)] * 2
    assert cluster.protected


def test_a_task_is_answered(cluster: Compute) -> None:
    assert finished(cluster.place("echo größer", StepNeed(cores=1, memory_gb=0.5))).answer() == "größer"


def test_a_task_waits_until_a_node_has_room(cluster: Compute, tmp_path: Path) -> None:
    files = [tmp_path / name for name in "ab"]
    sleeping = [cluster.place(f"sleep {file}", ONE) for file in files]
    for file in files:
        await_text(file, "asleep")
    third = cluster.place("echo third", ONE)
    assert not third.ended(0.5)
    files[0].write_text("wake")
    assert finished(third).answer() == "third"
    files[1].write_text("wake")
    assert [finished(task).answer() for task in sleeping] == ["awake", "awake"]


def test_a_cancelled_task_is_interrupted(cluster: Compute, tmp_path: Path) -> None:
    task = cluster.place(f"sleep {tmp_path / 'file'}", ONE)
    await_text(tmp_path / "file", "asleep")
    task.cancel()
    await_text(tmp_path / "file", "interrupted")
    with pytest.raises(Unavailable) as caught:
        finished(task).answer()
    assert caught.value.error_code == "step_interrupted"


def test_a_cancelled_task_that_waits_never_begins(cluster: Compute, tmp_path: Path) -> None:
    sleeping = [cluster.place(f"sleep {tmp_path / name}", ONE) for name in "ab"]
    for name in "ab":
        await_text(tmp_path / name, "asleep")
    third = cluster.place(f"sleep {tmp_path / 'c'}", ONE)
    third.cancel()
    with pytest.raises(Unavailable, match="interrupted"):
        finished(third).answer()
    for name in "ab":
        (tmp_path / name).write_text("wake")
    assert [finished(task).answer() for task in sleeping] == ["awake", "awake"]
    assert not (tmp_path / "c").exists()


def test_a_process_that_dies_is_told_and_not_started_again(cluster: Compute) -> None:
    with pytest.raises(Unavailable) as caught:
        finished(cluster.place("die", ONE)).answer()
    assert caught.value.error_code == "node_lost"
    assert finished(cluster.place("echo next", ONE)).answer() == "next"


def test_an_error_that_is_not_ours_keeps_its_words(cluster: Compute) -> None:
    with pytest.raises(TailorbirdError) as caught:
        finished(cluster.place("fail", ONE)).answer()
    assert "row" not in str(caught.value)


def process_of(cluster: Compute, purpose: str, verb: str = "process", need: StepNeed = ONE) -> int:
    return int(finished(cluster.place(verb, need, purpose)).answer())


def test_tasks_of_one_purpose_are_done_by_one_process(cluster: Compute) -> None:
    assert len({process_of(cluster, "acme/1") for _ in range(3)}) == 1
    lighter = StepNeed(cores=1, memory_gb=0.5)
    assert process_of(cluster, "acme/1", need=lighter) == process_of(cluster, "acme/1")


def test_a_process_does_nothing_of_another_purpose(cluster: Compute) -> None:
    """Nor does one that is kept do what has no purpose, or the other way round."""
    found = [process_of(cluster, purpose) for purpose in ("acme/2", "other/2", "", "", "acme/3")]
    assert len(set(found)) == len(found)


def test_a_task_that_keeps_nothing_ends_its_process(cluster: Compute) -> None:
    first = process_of(cluster, "acme/4")
    assert process_of(cluster, "acme/4", "last") == first
    assert process_of(cluster, "acme/4") != first
    await_end(first)


def test_a_process_that_is_asked_for_nothing_ends(open_cluster: Callable[[float], Compute]) -> None:
    await_end(process_of(open_cluster(0.2), "acme/5"))


def test_a_process_that_waits_has_ended_before_another_task_begins_on_its_node(cluster: Compute, tmp_path: Path) -> None:
    """What it holds is not booked. The other purposes fill both nodes."""
    first = process_of(cluster, "acme/9")
    files = [tmp_path / name for name in "ab"]
    tasks = [cluster.place(f"sleep {file}", ONE, purpose) for file, purpose in zip(files, ("acme/10", ""), strict=True)]
    for file in files:
        await_text(file, "asleep")
    await_end(first, 1)
    for file in files:
        file.write_text("wake")
    assert [finished(task).answer() for task in tasks] == ["awake", "awake"]
    assert process_of(cluster, "acme/9") != first


@pytest.mark.parametrize("verb", ["fail", "die"])
def test_a_process_whose_task_broke_off_is_not_kept(cluster: Compute, verb: str) -> None:
    first = process_of(cluster, "acme/6")
    with pytest.raises(TailorbirdError):
        finished(cluster.place(verb, ONE, "acme/6")).answer()
    assert process_of(cluster, "acme/6") != first
    await_end(first)


def test_a_process_whose_task_was_cancelled_is_not_kept(cluster: Compute, tmp_path: Path) -> None:
    first = process_of(cluster, "acme/7")
    task = cluster.place(f"sleep {tmp_path / 'file'}", ONE, "acme/7")
    await_text(tmp_path / "file", "asleep")
    task.cancel()
    await_text(tmp_path / "file", "interrupted")
    assert task.ended(60)
    assert process_of(cluster, "acme/7") != first
    await_end(first)


def test_tasks_of_one_purpose_are_done_at_once_where_there_is_room(cluster: Compute, tmp_path: Path) -> None:
    files = [tmp_path / name for name in "ab"]
    tasks = [cluster.place(f"sleep {file}", ONE, "acme/8") for file in files]
    for file in files:
        await_text(file, "asleep")
    for file in files:
        file.write_text("wake")
    assert [finished(task).answer() for task in tasks] == ["awake", "awake"]
