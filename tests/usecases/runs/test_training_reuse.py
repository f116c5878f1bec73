"""A training is done once for all runs of a tenant that ask for the same one, and only for those."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from support.doubles import MemoryTracker, MemoryTrainer
from support.usecases import write_objective
from tailorbird.domain.erasure import Certificate, Erasure, ErasureReach
from tailorbird.domain.ladder import Climb, RungKind
from tailorbird.domain.run import StoredTraining, TrainingOrigin, TrainingPlateau
from tailorbird.ports.trainer import ReportProgress, TrainedModel, TrainingJob
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.identities import FIRST_PEOPLE, act_as, initialise
from tailorbird.usecases.runs import submit as climbing
from tailorbird.usecases.runs.climb import waits_alike
from tailorbird.usecases.runs.engine import WorkedRun
from tailorbird.usecases.runs.queries import RunReport, show_run

D = "sha256:" + "0" * 64
STOOD = TrainingPlateau(loss=1.0, held_out=0.5, waits=(3,), added=2, left=6)


class CountingTrainer(MemoryTrainer):
    """Counts trainings, and says that each took two minutes; may be told to be interrupted."""

    def __init__(self) -> None:
        self.trained: list[str] = []
        self.killed = False

    def train(self, job: TrainingJob, report: ReportProgress) -> TrainedModel:
        if self.killed:
            raise KeyboardInterrupt
        self.trained.append(job.settings.method)
        made = super().train(job, report)
        return made.model_copy(update={"report": made.report.model_copy(update={"seconds": 120.0})})


@pytest.fixture
def trainer() -> CountingTrainer:
    return CountingTrainer()


Adapt = Callable[..., WorkedRun]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_objective(tmp_path / "job", ladder=["prompt", "lora"], data=DATA)


DATA = [{"path": "rows.csv", "source": {"origin": "written for this test", "license": "Apache-2.0"}}]


@pytest.fixture
def adapt(deps: Dependencies, trainer: CountingTrainer, author: Actor, path: Path) -> Adapt:
    """Adapts the objective with ``changes``."""

    def again(tracker: MemoryTracker | None = None, **changes: object) -> WorkedRun:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) | changes
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        trackers = (tracker,) if tracker else ()
        return climbing.adapt(replace(deps, trainer=lambda: trainer, trackers=lambda: trackers), author, path, Progress())

    return again


def shown(deps: Dependencies, actor: Actor, ended: WorkedRun) -> RunReport:
    return show_run(deps, actor, ended.run.id)


def lora(report: RunReport) -> Climb:
    return next(climb for climb in report.climbs if climb.rung is RungKind.LORA)


def test_what_does_not_enter_a_training_trains_nothing_again(
    deps: Dependencies, author: Actor, adapt: Adapt, trainer: CountingTrainer
) -> None:
    first, known = shown(deps, author, adapt()), set[str]()
    for changes in (
        {"kpis": [{"metric": "accuracy", "target": 0.82, "because": "better than people"}]},
        {"budget": {"money": 7, "currency": "EUR", "hours": 3, "memory_gb": "auto"}},
        {"traffic": {"per_month": 5000}, "approvals": ["approver"]},
        {"limits": {"latency_p95_ms": {"at_concurrency": 1, "max": 5000}}, "margin": 0.05},
        {"business": {"goal": "Route messages well.", "owner": "sales", "risk": "limited"}},
    ):
        again = shown(deps, author, adapt(**changes))
        known.add(again.run.id)
        assert trainer.trained == ["lora"], changes
        assert lora(again).candidate == lora(first).candidate
        origin = lora(again).reused
        assert (origin.run, origin.seconds) == (first.run.id, 120.0)
        assert list(again.reused.values()) == [origin]
        assert again.ladder.chosen == first.ladder.chosen, "the choice does not depend on who trained"
    assert len(known - {first.run.id}) == 5
    assert not first.reused


def test_what_enters_a_training_trains_again(adapt: Adapt, trainer: CountingTrainer) -> None:
    adapt()
    for changes in (
        {"task": {"kind": "classify", "instruction": "Say what the message is about."}},
        {"seed": 5},
        {"lora": {"epochs": 2}},
        {"lora": {"rank": 8}},
        {"limits": {"memorisation": {"max_extractable": 0}}},
    ):
        before = len(trainer.trained)
        adapt(**changes)
        assert len(trainer.trained) == before + 1, changes


def test_nothing_is_spent_twice_and_the_log_says_so(deps: Dependencies, author: Actor, adapt: Adapt) -> None:
    first = shown(deps, author, adapt())
    again = shown(deps, author, adapt(margin=0.05))
    made = lora(again)
    assert made.seconds < 60
    assert made.money < lora(first).money
    assert made.money_to_make == pytest.approx(lora(first).money, rel=0.1)
    assert f"reused from run {first.run.id}" in made.reason
    with deps.ledger.work("acme", write=False) as work:
        events = [entry.event for entry in work.events.about(again.run.id) if entry.event.data.get("rung") == "lora"]
        assert events[0].data["reused_from"] == first.run.id
        assert work.looks.count("desk") == 2, "a look is a look"
        assert len(work.records.digests(StoredTraining)) == 1


@pytest.mark.parametrize(
    ("stored", "plateau", "asked", "same"),
    [(2, None, 2, True), (2, None, 0, True), (0, None, 2, False), (2, STOOD, 2, True), (2, STOOD, 1, False)],
    ids=["never waited", "never waited, none allowed now", "could not wait", "waited", "waited, fewer allowed now"],
)
def test_a_waiting_allowance_counts_only_where_it_could_have_changed_something(
    stored: int, plateau: TrainingPlateau | None, asked: int, same: bool
) -> None:
    origin = TrainingOrigin(run="r", at=datetime(2026, 1, 1, tzinfo=UTC), seconds=1.0, money=0.0)
    one = StoredTraining(fingerprint=D, tree=D, report=D, snapshot=D, rows=D, waiting_epochs=stored, origin=origin)
    assert waits_alike(one, plateau, asked) is same


def stored(deps: Dependencies) -> StoredTraining:
    with deps.ledger.work("acme", write=False) as work:
        return work.records.get(StoredTraining, work.records.digests(StoredTraining)[-1])


def ask_erasure(deps: Dependencies) -> Erasure:
    with deps.ledger.work("acme") as work:
        return work.erasures.add(Erasure(id="0" * 12, tenant="acme", subject="s", by="author", at=deps.clock.now()))


@pytest.mark.parametrize("reached", ["snapshots", "adapters", ""])
def test_what_an_erasure_reached_is_not_reused_and_all_else_is(
    deps: Dependencies, adapt: Adapt, trainer: CountingTrainer, reached: str
) -> None:
    adapt()
    one, asked, now = stored(deps), ask_erasure(deps), deps.clock.now()
    named = {"snapshots": one.snapshot, "adapters": one.tree}
    reach = ErasureReach(**({reached: (named[reached],)} if reached else {}))
    certificate = Certificate(
        erasure=asked.id,
        tenant="acme",
        subject="s",
        asked_by="author",
        asked_at=now,
        done_at=now,
        reach=reach,
        snapshots=(),
        purged=(),
        duties=(),
    )
    with deps.ledger.work("acme") as work:
        work.erasures.take(asked.id, "here", timedelta(minutes=1))
        work.erasures.finish(asked.id, "here", work.records.put(certificate))
    adapt(margin=0.05)
    assert len(trainer.trained) == (2 if reached else 1)


def test_another_tenant_trains_for_itself(deps: Dependencies, adapt: Adapt, trainer: CountingTrainer, path: Path, tmp_path: Path) -> None:
    adapt()
    initialise(deps, "globex", FIRST_PEOPLE)
    theirs = tmp_path / "theirs"
    shutil.copytree(path.parent, theirs)
    content = yaml.safe_load(path.read_text(encoding="utf-8")) | {"tenant": "globex"}
    (theirs / "objective.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    climbing.adapt(replace(deps, trainer=lambda: trainer), act_as(deps, "globex", "author"), theirs / "objective.yaml", Progress())
    assert trainer.trained == ["lora", "lora"]
