"""Curation of which nodes that do not hold the step do parts: taken where they are whole, and gone when they are wanted no more."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.usecases import write_objective
from tailorbird import data
from tailorbird.data import build_help
from tailorbird.data.parts import shared_rows
from tailorbird.domain.compute import ComputeNode, StepNeed
from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.domain.errors import Conflict, DataInvalid, Exhausted, TailorbirdError
from tailorbird.domain.quota import QuotaLimits
from tailorbird.domain.run import RunState, StepState
from tailorbird.domain.value import Digest
from tailorbird.testing import FixedClock
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.climb import snapshot_and_plan, step_parts
from tailorbird.usecases.climb.snapshot_and_plan import take_snapshot
from tailorbird.usecases.climb.step_parts import StepParts
from tailorbird.usecases.erasure.lineage import trace
from tailorbird.usecases.identities import FIRST_PEOPLE, act_as, initialise
from tailorbird.usecases.leases import LeaseWatch
from tailorbird.usecases.runs import answer_help
from tailorbird.usecases.runs import submit as climbing
from tailorbird.usecases.runs.answer_help import Helpers
from tailorbird.usecases.runs.placed_answers import help_placed
from tailorbird.usecases.runs.step_placement import HelpTask, StepAnswer, StepTask
from tailorbird.usecases.runs.step_runner import LEASE, perform_placed, plan_for, stage_of
from tailorbird.usecases.steps import transitions
from tailorbird.usecases.steps.step_context import StepContext
from tailorbird.usecases.storage_quota import stored_by, storing
from tailorbird.usecases.tenants import limit_tenant

#: Bytes of a stretch here: a dozen of the file.
STRETCH = 4000
SNAPSHOT = transitions.SNAPSHOT
#: Bytes by which what two workspaces store of the same rows may differ.
SLACK = 500


class Gone(Exception):
    """The node that helped is gone, once there was nothing to do for it but to wait."""


class Curating:
    """A run whose snapshot somebody is about to take."""

    def __init__(self, deps: Dependencies, author: Actor, path: Path) -> None:
        self.deps, self.author, self.path = deps, author, path
        self.run = climbing.submit(deps, author, path, RunState.PLANNING).id
        with deps.ledger.work("acme") as work:
            work.steps.enqueue(self.run, SNAPSHOT)
            self.held = work.steps.lease(self.run, "somebody", LEASE)

    @property
    def context(self) -> StepContext:
        """As a node sees the run now."""
        with self.deps.ledger.work("acme", write=False) as work:
            run = work.runs.get(self.run)
        return replace(stage_of(self.deps, self.author, run, Progress()), placed=True)

    @property
    def parts(self) -> dict[str, Digest]:
        return StepParts(self.context, SNAPSHOT).known

    @property
    def task(self) -> StepTask:
        about = {"workspace": "/w", "settings": "sha256:" + "0" * 64, "tenant": "acme", "actor": "author", "run": self.run}
        return StepTask.model_validate(about | {"step": SNAPSHOT, "cores": 1, "mark": f"placed-{'0' * 32}"})

    @property
    def help_task(self) -> HelpTask:
        return HelpTask(**self.task.model_dump(), number=0, among=1)

    def help(self) -> None:
        """As a node does that dies while it waits for the texts."""
        with pytest.raises(Gone):
            help_placed(self.deps, self.author, self.help_task, Progress())

    def give_back(self) -> None:
        with self.deps.ledger.work("acme") as work:
            assert self.held is not None
            work.steps.release(self.held)

    def taken(self) -> SnapshotManifest:
        manifest = take_snapshot(self.context).value
        assert isinstance(manifest, SnapshotManifest)
        return manifest


@pytest.fixture
def curating(deps: Dependencies, author: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Curating:
    def wait(_seconds: float) -> None:
        raise Gone

    asked = snapshot_and_plan.snapshot_request

    def in_stretches(*given: Any) -> data.SnapshotRequest:
        return replace(asked(*given), stretch=STRETCH)

    monkeypatch.setattr(build_help, "time", SimpleNamespace(sleep=wait))
    monkeypatch.setattr(snapshot_and_plan, "snapshot_request", in_stretches)
    monkeypatch.setattr("tailorbird.usecases.runs.placed_answers.snapshot_request", in_stretches)
    return Curating(deps, author, write_objective(tmp_path / "job", ladder=["prompt"]))


def test_whoever_takes_the_snapshot_takes_what_others_have_curated(curating: Curating, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that died leaves what it had curated; the texts are given to who comes next."""
    alone = curating.taken()
    assert curating.parts == {}
    curating.help()
    assert len(curating.parts) > 5
    monkeypatch.setattr(shared_rows, "curated_stretch", pytest.fail)
    given, put = set[str](), StepParts.put

    def noted(parts: StepParts, name: str, found: bytes) -> bool:
        given.add(name)
        return put(parts, name, found)

    monkeypatch.setattr(StepParts, "put", noted)
    assert curating.taken() == alone
    assert given == {"read", "texts", "searched"}
    assert curating.parts == {}, "they go before the snapshot is counted"


def test_who_helps_leaves_its_cores_to_the_step_when_nobody_does_it_any_more(
    curating: Curating, deps: Dependencies, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node that did the step is lost, and the step waits for the cores of the one that helps, which waits for texts."""
    began, clock, waited = deps.clock.now(), deps.clock, list[float]()
    assert isinstance(clock, FixedClock)

    def wait(seconds: float) -> None:
        clock.advance(timedelta(seconds=seconds))
        waited.append(seconds)
        assert clock.now() - began < 4 * LEASE, "the help waits for whoever waits for its end"

    monkeypatch.setattr(build_help, "time", SimpleNamespace(sleep=wait))
    monkeypatch.setattr(step_parts, "LeaseWatch", lambda: LeaseWatch(lambda: (clock.now() - began).total_seconds()))
    assert help_placed(deps, curating.author, curating.help_task, Progress()) == len(curating.parts) > 5
    assert clock.now() - began > 2 * LEASE, "the step may be taken up again while its lease runs out"
    assert len(waited) > 100
    monkeypatch.setattr(shared_rows, "curated_stretch", pytest.fail)
    with deps.ledger.work("acme") as work:
        assert work.steps.lease(curating.run, "another", LEASE) is not None
    assert curating.taken().counts.train > 0


def test_who_helps_may_come_before_who_does_the_step(curating: Curating, deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    """The processes of both begin together."""
    run = climbing.submit(deps, author, write_objective(tmp_path / "other", ladder=["prompt"], hard_share=7), RunState.PLANNING)
    given = set[str]()

    class Placed:
        def ended(self, _seconds: float) -> bool:
            return True

        def answer(self) -> str:
            return StepAnswer().model_dump_json()

    class Cluster:
        protected = True

        def nodes(self) -> tuple[ComputeNode, ...]:
            return tuple(ComputeNode(host=name, cores=1, memory_gb=8.0, here=True) for name in "ab")

        def place(self, text: str, _need: StepNeed, purpose: str) -> Placed:
            assert purpose == f"acme/{run.id}"
            task = StepTask.model_validate_json(text)
            with pytest.raises(Gone):
                help_placed(deps, author, HelpTask(**task.model_dump(), number=0, among=1), Progress())
            with deps.ledger.work("acme", write=False) as work:
                given.update(part for step in work.steps.of(run.id) for part in step.answers)
            perform_placed(deps, author, task, Progress())
            return Placed()

    cluster: Any = Cluster()
    context = plan_for(
        replace(deps, compute=lambda: cluster, settings_digest="sha256:" + "0" * 64), author, run, Progress(), until=SNAPSHOT
    )
    assert context.done[SNAPSHOT]
    assert len([part for part in given if part.startswith("rows ")]) > 5
    del curating


def test_what_is_gone_or_damaged_is_curated_here(curating: Curating) -> None:
    alone = curating.taken()
    curating.help()
    gone, damaged, *_ = (parts := curating.parts).items()
    curating.deps.artifacts.destroy(gone[1])
    with curating.deps.ledger.work("acme") as work:
        kept = {name: digest for name, digest in parts.items() if name != damaged[0]}
        work.steps.forget_answers(curating.run, SNAPSHOT, parts)
        for name, digest in (*kept.items(), (damaged[0], curating.deps.artifacts.put(b"no part"))):
            work.steps.note_answers(curating.run, SNAPSHOT, name, digest)
    assert curating.taken() == alone


def test_parts_are_counted_and_go_with_the_step(curating: Curating) -> None:
    curating.help()
    parts = set(curating.parts.values())
    with curating.deps.ledger.work("acme", write=False) as work:
        assert work.storage.counted(parts) == parts
        step = next(step for step in work.steps.of(curating.run) if step.name == SNAPSHOT)
        assert (step.state, step.owner, step.attempts) == (StepState.LEASED, "somebody", 1), "who helps has no lease"
    curating.give_back()
    context = plan_for(curating.deps, curating.author, curating.context.run, Progress(), until=SNAPSHOT)
    assert context.done[SNAPSHOT]
    assert curating.parts == {}
    assert not [digest for digest in parts if curating.deps.artifacts.exists(digest)]
    with curating.deps.ledger.work("acme", write=False) as work:
        assert not work.storage.counted(parts)


def test_what_is_given_while_parts_go_is_found_afterwards(curating: Curating, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes whose name is lost would stay for ever."""
    curating.help()
    name, digest = next(iter(curating.parts.items()))
    data, artifacts = curating.deps.artifacts.get(digest), curating.deps.artifacts
    destroy, given = type(artifacts).destroy, list[str]()

    def late(store: Any, gone: Digest, **how: bool) -> bool:
        if (destroyed := destroy(store, gone, **how)) and not given:
            given.append(gone)
            assert StepParts(curating.context, SNAPSHOT).put(name, data)
            assert StepParts(curating.context, SNAPSHOT).put("late", b"texts")
        return destroyed

    monkeypatch.setattr(type(artifacts), "destroy", late)
    StepParts(curating.context, SNAPSHOT).forget()
    assert curating.parts.keys() == {"late"}
    assert not artifacts.exists(digest)
    assert artifacts.exists(curating.parts["late"])


@pytest.mark.parametrize("refusing", ["the build", "a check of it", "a disk", "a cancellation"])
def test_parts_go_where_no_snapshot_is_taken(curating: Curating, monkeypatch: pytest.MonkeyPatch, refusing: str) -> None:
    """Whatever refuses it: also what others give while it is refused."""
    curating.help()
    curating.give_back()
    noted = dict(curating.parts)

    def refuse(*_given: Any) -> None:
        with storing(curating.deps, "acme") as store:
            context = replace(curating.context, deps=replace(curating.deps, artifacts=store))
            assert StepParts(context, SNAPSHOT, store.account).put("late", b"texts")
        noted.update(curating.parts)
        if refusing == "a disk":
            raise OSError(errno.ENOSPC, "No space left on device")
        if refusing == "a cancellation":
            raise Conflict("no", "adapt again", code="run_cancelled")
        raise DataInvalid("no", "other data", code="nothing_left")

    place = (data, "build_snapshot") if refusing == "the build" else (snapshot_and_plan, "check_power")
    monkeypatch.setattr(*place, refuse)
    with pytest.raises(TailorbirdError):
        perform_placed(curating.deps, curating.author, curating.task, Progress())
    assert "late" in noted
    assert curating.parts == {}
    assert not [digest for digest in noted.values() if curating.deps.artifacts.exists(digest)]
    with curating.deps.ledger.work("acme", write=False) as work:
        assert not work.storage.counted(set(noted.values()))
        assert work.steps.of(curating.run)[0].state is (StepState.READY if refusing == "a cancellation" else StepState.FAILED)


def test_help_takes_no_room_from_the_snapshot(
    curating: Curating, another_parts: Callable[..., Dependencies], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the quota holds the snapshot, and not what nodes did of it beside."""
    alone = another_parts()
    theirs = act_as(alone, "acme", "author")
    context = plan_for(alone, theirs, climbing.submit(alone, theirs, curating.path, RunState.PLANNING), Progress(), until=SNAPSHOT)
    initialise(curating.deps, "house", FIRST_PEOPLE)
    host = replace(curating.deps, host="house")
    limits = QuotaLimits(storage_bytes=stored_by(alone, "acme").bytes + SLACK)
    limit_tenant(host, act_as(host, "house", "admin"), "acme", limits)
    curating.give_back()
    told, parts, build = list[str](), dict[str, Digest](), data.build_snapshot

    def helped(request: data.SnapshotRequest) -> data.BuiltSnapshot:
        if not parts:
            with pytest.raises((Gone, Exhausted)):
                help_placed(curating.deps, curating.author, curating.help_task, Progress())
            parts.update(curating.parts)
        return build(request)

    monkeypatch.setattr(data, "build_snapshot", helped)
    perform_placed(curating.deps, curating.author, curating.task, Progress(tell=told.append))
    assert curating.context.manifest.counts == context.manifest.counts
    assert len([line for line in told if line.startswith("parts of other nodes leave no room")]) == 1
    assert stored_by(curating.deps, "acme").bytes <= stored_by(alone, "acme").bytes + SLACK


def test_nothing_is_curated_for_a_run_that_was_cancelled(curating: Curating) -> None:
    with curating.deps.ledger.work("acme") as work:
        work.runs.set_state(curating.run, RunState.CANCELLED)
    before = set(curating.deps.artifacts.digests())
    assert help_placed(curating.deps, curating.author, curating.help_task, Progress()) == 0
    assert set(curating.deps.artifacts.digests()) == before


def test_an_erasure_finds_parts_of_curations_that_are_under_way(curating: Curating) -> None:
    """They hold texts, and there is no snapshot yet that would say whose."""
    curating.help()
    with curating.deps.ledger.work("acme", write=False) as work:
        assert trace(work, {}).given == set(curating.parts.values()) != set()


@pytest.mark.parametrize(("fewest", "asked"), [(1, 1), (1 << 30, 0)])
def test_idle_nodes_are_asked_where_there_are_many_rows(
    curating: Curating, monkeypatch: pytest.MonkeyPatch, fewest: int, asked: int
) -> None:
    monkeypatch.setattr(answer_help, "FEWEST_BYTES", fewest)
    clock = iter([0.0, answer_help.BOOKED_SECONDS / 2, answer_help.BOOKED_SECONDS])
    monkeypatch.setattr(answer_help, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    given = list[str]()

    class Cluster:
        def nodes(self) -> list[ComputeNode]:
            return [ComputeNode(host=name, cores=1, memory_gb=8.0) for name in "ab"]

        def place_aside(self, task: str, _need: StepNeed, purpose: str) -> None:
            given.append(f"{purpose} {HelpTask.model_validate_json(task).step}")

    ask = Helpers().beside(curating.context, Cluster(), curating.task, StepNeed(cores=1))  # type: ignore[arg-type]
    ask(False)
    assert given == [], "the cluster may not know yet which node does the step"
    ask(False)
    assert given == [f"acme/{curating.run}/answers snapshot"] * asked
