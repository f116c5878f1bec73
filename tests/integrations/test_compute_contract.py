"""What a cluster must do: Ray on two raylets (``make ray``)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tailorbird.domain.errors import Unavailable
from tailorbird.domain.run import StepNeed
from tailorbird.ports.compute import Compute, PlacedTask

pytestmark = pytest.mark.ray
ONE = StepNeed(cores=1)


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Compute:
    """Two nodes of one core each, of this machine."""
    address = request.getfixturevalue("raylets").address  # before Ray is loaded: it reads then whether it needs a token
    from tailorbird.integrations.ray import RayCompute

    return RayCompute(address, "support.placed_tasks:plain")


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


def test_a_process_that_dies_is_told_and_not_started_again(cluster: Compute) -> None:
    with pytest.raises(Unavailable) as caught:
        finished(cluster.place("die", ONE)).answer()
    assert caught.value.error_code == "node_lost"
    assert finished(cluster.place("echo next", ONE)).answer() == "next"
