"""What holds of Ray alone (``make ray``): whose machine a node is, and who may join."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from support.ray_cluster import RayCluster
from tailorbird.domain.errors import Unavailable
from tailorbird.domain.run import StepNeed
from tailorbird.ports.compute import PlacedTask

pytestmark = pytest.mark.ray
#: A process that joins as the integration does, and says what came of it.
JOINS = """
import sys
from support.placed_tasks import plain
from tailorbird.domain.errors import Unavailable
from tailorbird.integrations.ray import RayCompute
try:
    sys.stdout.write(str(RayCompute(sys.argv[1], "support.placed_tasks:plain").protected))
except Unavailable as error:
    sys.stdout.write(error.error_code)
"""


def joined(cluster: RayCluster, address: str = "", **environment: str) -> str:
    given = os.environ | cluster.environment | environment
    done = subprocess.run(
        [sys.executable, "-c", JOINS, address or cluster.address], env=given, capture_output=True, text=True, check=False, timeout=200
    )
    return done.stdout


def test_a_node_of_another_machine_is_told_from_those_here(raylets: RayCluster) -> None:
    from tailorbird.integrations.ray import RayCompute

    cluster = RayCompute(raylets.address, "support.placed_tasks:plain")
    raylets.start(5, cores=3, host="far")
    deadline = time.monotonic() + 60
    while "far" not in {node.host for node in cluster.nodes()}:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert {node.host == "far": node.here for node in cluster.nodes()} == {False: True, True: False}
    task = cluster.place("echo there", StepNeed(cores=3))
    assert task.ended(100)
    assert task.answer() == "there"
    raylets.end(5)


def test_nobody_joins_without_the_token_of_the_cluster(raylets: RayCluster) -> None:
    assert joined(raylets) == "True"
    assert joined(raylets, RAY_AUTH_TOKEN="0" * 32) == "compute_unreachable"
    assert joined(raylets, RAY_AUTH_MODE="disabled") == "compute_unreachable"


def test_a_cluster_that_asks_for_no_token_is_open_whatever_this_process_has(raylets: RayCluster) -> None:
    head = "127.0.0.9"
    command = ["ray", "start", "--head", f"--node-ip-address={head}", "--port=6401", "--include-dashboard=false", "--num-cpus=1"]
    command += [f"--temp-dir={raylets.folder / 'open'}", "--object-store-memory=100000000", "--disable-usage-stats"]
    given = os.environ | raylets.environment | {"RAY_AUTH_MODE": "disabled"}
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == 0, done.stdout + done.stderr
    assert joined(raylets, f"{head}:6401") == "False"
    raylets.end(9)


def test_only_loopback_needs_no_token(raylets: RayCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second raylet, at 127.0.0.2, listens to all addresses."""
    from tailorbird.integrations.ray import RayCompute

    cluster = RayCompute(raylets.address, "support.placed_tasks:plain")
    monkeypatch.delenv("RAY_AUTH_MODE")
    assert not cluster.protected
    monkeypatch.setattr(cluster, "_alive", lambda: [{"NodeManagerAddress": "127.0.0.1"}])
    assert cluster.protected


@pytest.mark.parametrize(("verb", "ask"), [("wait", lambda task: task.ended(1)), ("cancel", lambda task: task.cancel())])
def test_an_error_of_ray_is_told_and_who_comes_next_joins_anew(
    raylets: RayCluster, monkeypatch: pytest.MonkeyPatch, verb: str, ask: Callable[[PlacedTask], object]
) -> None:
    import ray

    from tailorbird.integrations.ray import RayCompute

    def away(*_: object, **__: object) -> None:
        raise ray.exceptions.RaySystemError("connection lost")

    cluster = RayCompute(raylets.address, "support.placed_tasks:plain")
    task = cluster.place("echo first", StepNeed(cores=1))
    with monkeypatch.context() as patch:
        patch.setattr(ray, verb, away)
        with pytest.raises(Unavailable) as caught:
            ask(task)
    assert caught.value.error_code == "compute_unreachable"
    with pytest.raises(Unavailable) as caught:
        task.answer()
    assert caught.value.error_code == "compute_unreachable"
    assert not ray.is_initialized(), "Ray would start a cluster of its own"
    again = cluster.place("echo again", StepNeed(cores=1))
    assert again.ended(60)
    assert again.answer() == "again"
