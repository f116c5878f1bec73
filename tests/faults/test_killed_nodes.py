"""A node, or the process that asks, is killed in the middle of a step (``make ray``): nothing that was finished is done again, and the
story ends with the same release."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.faults import Desk, Ending, ending_of
from support.ray_cluster import RayCluster, await_stop

pytestmark = pytest.mark.ray
#: Where the step of the story stops that takes longest.
STOP = "stop before the commit of make lora"


@contextmanager
def adapting(desk: Desk, cluster: RayCluster, cores: int = 1) -> Iterator[subprocess.Popen[str]]:
    """``tailorbird adapt`` in a process of its own, whose steps the cluster does."""
    script = Path(__file__).parents[1] / "support" / "placed_tasks.py"
    command = [sys.executable, str(script), str(desk.workspace), str(desk.objective), cluster.address, str(cores)]
    process = subprocess.Popen(command, env=os.environ | cluster.environment, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def stopped(process: subprocess.Popen[str]) -> int:
    """The process on a node that stopped in the middle of its step; what is told until then is read."""
    assert process.stdout is not None
    step = pid = ""
    for line in process.stdout:
        step = line.removeprefix("step ").strip() if line.startswith("step ") else step
        if line.strip().endswith("does the step"):
            pid = line.split()[0].rpartition(":")[2]
        if step.startswith("make lora") and line.strip().endswith("does the step"):
            await_stop(int(pid))
            return int(pid)
    raise AssertionError(f"no step stopped: {process.wait()}")


def finish(desk: Desk, cluster: RayCluster) -> None:
    with adapting(desk, cluster) as process:
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said


def test_a_node_that_dies_in_the_middle_of_a_step(desk: Desk, raylets: RayCluster, undisturbed: Ending) -> None:
    """The process that asks goes on, and another node does the step."""
    (desk.workspace / "kills").write_text(STOP)
    for number in (3, 4):
        raylets.start(number, cores=2)
    with adapting(desk, raylets, cores=2) as process:
        number = raylets.raylet_of(stopped(process))
        assert number in (3, 4)
        raylets.end(number)
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
    assert "the step is done again" in said
    assert ending_of(desk) == undisturbed
    raylets.end(7 - number)


def test_the_process_that_asks_is_killed_and_started_again(desk: Desk, raylets: RayCluster, undisturbed: Ending) -> None:
    (desk.workspace / "kills").write_text(STOP)
    with adapting(desk, raylets) as process:
        pid = stopped(process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    os.kill(pid, signal.SIGCONT)
    finish(desk, raylets)
    assert ending_of(desk) == undisturbed
