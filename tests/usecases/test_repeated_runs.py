"""A run that ended without a release is repeated when asked to, and no other is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from support.doubles import MemoryEngine
from support.usecases import write_objective
from tailorbird.domain.prompt import Message
from tailorbird.domain.run import RunState
from tailorbird.ports.engine import LabelScores
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.dependencies import StepBegun
from tailorbird.usecases.runs import submit as climbing
from tailorbird.usecases.runs.queries import show_run

SILENT = Progress()
LIMIT = {"latency_p95_ms": {"max": 10_000}}


class TellingEngine(MemoryEngine):
    """Tells of each request that it took so many milliseconds."""

    def __init__(self, told: float) -> None:
        super().__init__()
        self.told = told

    def _score(self, prompt: Sequence[Message], labels: Sequence[str]) -> LabelScores:
        return super()._score(prompt, labels).model_copy(update={"latency_ms": self.told})


def on_machine(deps: Dependencies, told: float) -> Dependencies:
    engine = TellingEngine(told)
    return replace(deps, engine=lambda: engine)


def test_a_run_on_a_busy_machine_is_repeated_and_then_is_the_run(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    path = write_objective(tmp_path / "desk", ladder=["prompt"], limits=LIMIT)
    busy, idle = on_machine(deps, 60_000.0), on_machine(deps, 1.0)
    first = climbing.adapt(busy, author, path, SILENT)
    assert first.conclusion.release is None
    report = show_run(deps, author, run=first.run.id)
    assert any("--again" in line for line in report.remedies), report.remedies
    assert climbing.submit(idle, author, path, RunState.ACTIVE).id == first.run.id
    second = climbing.adapt(idle, author, path, SILENT, again=True)
    assert second.run.id != first.run.id
    assert second.conclusion.release is not None
    for again in (False, True):  # what has led to a release is over
        assert climbing.submit(idle, author, path, RunState.ACTIVE, again=again).id == second.run.id


def test_each_repetition_pays_for_its_look_at_the_sealed_test(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    path = write_objective(tmp_path / "desk", ladder=["prompt"], limits=LIMIT)
    engine = TellingEngine(1.0)
    machine = replace(deps, engine=lambda: engine)

    def begun(step: StepBegun | None) -> None:
        engine.told = 60_000.0 if step is not None and step.name.startswith("test") else 1.0

    counts = []
    for _ in range(3):
        ended = climbing.adapt(machine, author, path, Progress(step=begun), again=True)
        assert ended.conclusion.release is None
        with deps.ledger.work("acme", write=False) as work:
            counts.append(work.looks.count("desk"))
    assert counts == [counts[0], 2 * counts[0], 3 * counts[0]]
    report = show_run(deps, author, run=ended.run.id)
    assert report.looks[-1].look == counts[-1]
