"""What holds of Ray alone (``make ray``): whose machine a node is, and who may join."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from support.ray_cluster import RayCluster
from tailorbird.domain.run import StepNeed

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


def test_only_loopback_needs_no_token(raylets: RayCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second raylet, at 127.0.0.2, listens to all addresses."""
    from tailorbird.integrations.ray import RayCompute

    cluster = RayCompute(raylets.address, "support.placed_tasks:plain")
    monkeypatch.delenv("RAY_AUTH_MODE")
    assert not cluster.protected
    monkeypatch.setattr(cluster, "_alive", lambda: [{"NodeManagerAddress": "127.0.0.1"}])
    assert cluster.protected
