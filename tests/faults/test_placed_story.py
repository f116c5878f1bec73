"""The story with its steps on the nodes of a cluster (``make ray``): it ends as it does without one, whatever dies meanwhile.
``test_placed_faults.py`` has what needs no cluster."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from support.faults import Desk, Ending, ending_of, opened
from support.ray_cluster import RayCluster
from tailorbird.usecases import Progress
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.runs import placement
from tailorbird.usecases.runs import submit as climbing

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("twins")]
#: A kill on either side of a step's commit, for steps of each kind: the first loses the step, the second must not.
KILLS = ("before the commit of plan", "in the commit of make prompt", "after the commit of measure prompt", "before the commit of test")


def test_processes_of_nodes_that_die_lose_nothing_that_was_done(
    desk: Desk, raylets: RayCluster, undisturbed: Ending, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has the step done again, unless it was committed; the process that waits for it goes on."""
    address = raylets.address  # before Ray is loaded: it reads then whether it needs a token
    from tailorbird.integrations.ray import RayCompute

    monkeypatch.setattr(placement, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(placement, "time", SimpleNamespace(sleep=lambda _: time.sleep(0.05)))
    cluster, told, kills = RayCompute(address, "support.placed_tasks:twin_step"), list[str](), desk.workspace / "kills"
    kills.write_text("\n".join(KILLS))
    with opened(desk) as deps:
        deps = replace(deps, compute=lambda: cluster)
        climbing.adapt(deps, act_as(deps, "acme", "author"), desk.objective, Progress(tell=told.append))
    assert ending_of(desk) == undisturbed
    assert any(line.endswith("does the step") for line in told)
    assert kills.read_text() == ""
    assert sum(line.endswith("the step is done again") for line in told) == len(KILLS)
