"""Rows that two nodes curate: the very snapshot that one process takes, whoever dies meanwhile. On the twin, and on Ray (``make ray``)."""

from __future__ import annotations

import csv
import multiprocessing
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from support.faults import Desk, opened, write_job
from support.placed_tasks import HELP, twin_step
from tailorbird.domain.compute import ComputeNode
from tailorbird.domain.value import Digest
from tailorbird.ports.compute import Compute
from tailorbird.testing import ProcessCompute
from tailorbird.usecases import Dependencies, Progress
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.runs import step_placement
from tailorbird.usecases.runs.curate import curate

pytestmark = pytest.mark.usefixtures("twins")
on_each_cluster = pytest.mark.parametrize(
    "cluster", [pytest.param("twin", marks=pytest.mark.slow), pytest.param("ray", marks=pytest.mark.ray)], indirect=True
)
ROWS = 80_000
_FORKS = multiprocessing.get_context("forkserver")


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps on nodes are looked at often."""
    monkeypatch.setattr(step_placement, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(step_placement, "time", SimpleNamespace(sleep=lambda _: time.sleep(0.05)))


def two_nodes() -> ProcessCompute:
    return ProcessCompute(twin_step, [ComputeNode(host=host, cores=1, memory_gb=8.0, here=True) for host in "ab"], _FORKS)


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Compute:
    """Two nodes of one core."""
    if request.param == "twin":
        return two_nodes()
    address = request.getfixturevalue("raylets").address  # before Ray is loaded: it reads then whether it needs a token
    from tailorbird.integrations.ray import open_ray

    return open_ray(address, twin_step)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A job of rows that are worth the help, with near-copies far from each other."""
    folder, drawn = tmp_path_factory.mktemp("large"), random.Random(7)
    desk = Desk.new(folder / "workspace", write_job(folder / "job"))
    words = ["".join(drawn.choices("abcdefghijklmnopqrstuvwxyz", k=drawn.randint(3, 9))) for _ in range(3000)]
    texts = [" ".join(drawn.choices(words, k=9)) for _ in range(ROWS)]
    texts += [f"{text}s" for text in texts[:2000]]
    with (folder / "job" / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *((text, f"label {len(text) % 5}") for text in texts)])
    return desk


@dataclass
class Told:
    """What is told of a curation, and the names of the parts that were noted by then. ``lose`` is called once a node helps and all rows are
    read."""

    lose: Callable[[], None] = lambda: None
    lines: list[str] = field(default_factory=list)
    parts: set[str] = field(default_factory=set)

    def note(self, deps: Dependencies, line: str) -> None:
        self.lines.append(line)
        self.parts |= parts_of(deps)
        if line.startswith(("read ", "looking for ")) and self.helped:
            self.lose()

    @property
    def helped(self) -> bool:
        """Rows were given by a node that was asked: who builds gives none."""
        return any(part.startswith("rows ") for part in self.parts)


def parts_of(deps: Dependencies) -> set[str]:
    with deps.ledger.work("acme", write=False) as work:
        return {part for run in work.runs.all() for step in work.steps.of(run.id) for part in step.answers}


def curated(desk: Desk, cluster: Compute | None, told: Told) -> Digest:
    """The snapshot; nothing is left of what nodes did of it."""
    with opened(desk) as opening:
        deps = replace(opening, compute=lambda: cluster)
        view = curate(deps, act_as(deps, "acme", "author"), desk.objective, Progress(tell=lambda line: told.note(deps, line)))
        assert view.manifest.near_duplicate_groups >= 1900
        assert parts_of(deps) == set()
    return view.digest


@on_each_cluster
def test_two_nodes_take_the_snapshot_that_one_process_takes(large: Desk, cluster: Compute, tmp_path: Path) -> None:
    alone, told = curated(large.copy(tmp_path / "alone"), None, Told()), Told()
    assert curated(large.copy(tmp_path / "two"), cluster, told) == alone
    assert told.helped


@on_each_cluster
def test_whoever_dies_costs_a_part_or_the_step_anew(large: Desk, cluster: Compute, tmp_path: Path) -> None:
    """First the one that helps, after one part; then the one that builds, before its step is done."""
    alone, desk, told = curated(large.copy(tmp_path / "alone"), None, Told()), large.copy(tmp_path / "two"), Told()
    kills = desk.workspace / "kills"
    kills.write_text(f"{HELP}\nbefore the commit of snapshot")
    assert curated(desk, cluster, told) == alone
    assert kills.read_text() == ""
    assert sum(line.endswith("the step is done again") for line in told.lines) == 1


@pytest.mark.slow
def test_the_node_that_helps_does_the_step_when_the_other_is_lost(large: Desk, tmp_path: Path) -> None:
    """It is the last one, and the step takes the cores that its help has."""
    cluster = two_nodes()
    alone, told = curated(large.copy(tmp_path / "alone"), None, Told()), Told(lose=lambda: cluster.lose("a"))
    assert curated(large.copy(tmp_path / "two"), cluster, told) == alone
    assert sum(line.endswith("the step is done again") for line in told.lines) == 1
    assert [node.host for node in cluster.nodes()] == ["b"]
