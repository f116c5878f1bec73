"""A budget of memory is about the whole process: what it took is on record, and who takes more ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.usecases import VIEWER, write_objective
from tailorbird.domain.errors import Exhausted
from tailorbird.domain.ladder import Ladder, RungKind
from tailorbird.domain.objective import Budget
from tailorbird.domain.run import RunState
from tailorbird.system.machine import PeakMemory
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.runs import climb
from tailorbird.usecases.runs import submit as climbing
from tailorbird.usecases.runs.context import within_memory
from tailorbird.usecases.runs.queries import RunReport, show_run

SILENT = Progress()


class Took(PeakMemory):
    """A process that took so much."""

    taken = 9.9

    def __init__(self) -> None:
        self.start = 0.0

    @property
    def gib(self) -> float:
        return self.taken


def climbed(deps: Dependencies, author: Actor, path: Path) -> tuple[RunReport, Ladder]:
    found = show_run(deps, VIEWER, climbing.adapt(deps, author, path, SILENT).run.id)
    assert found.ladder is not None
    return found, found.ladder


def test_a_rung_that_takes_more_than_the_budget_fails_and_says_so(
    deps: Dependencies, author: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(climb, "PeakMemory", Took)
    path = write_objective(tmp_path / "job", ladder=["prompt", "lora"], budget={"memory_gb": 4})
    found, ladder = climbed(deps, author, path)
    refused = {one.rung: one.reason for one in ladder.refused}
    assert {RungKind.PROMPT, RungKind.LORA} <= refused.keys()
    assert all("the process took 9.9 GiB of memory and the budget is 4 GiB [memory]" in reason for reason in refused.values())
    assert found.run.state is RunState.NO_RELEASE
    assert found.plan.memory_limit_gb == 4.0


@pytest.mark.parametrize("told", ["tell", "count"])
def test_the_process_is_looked_at_whenever_the_work_tells_how_far_it_is(told: str) -> None:
    progress = within_memory(SILENT, Budget(memory_gb=4), Took())
    with pytest.raises(Exhausted) as caught:
        progress.tell("loading") if told == "tell" else progress.count(1, 2)
    assert caught.value.error_code == "memory"
    within_memory(SILENT, Budget(memory_gb=16), Took()).count(1, 2)
    within_memory(SILENT, Budget(), Took()).count(1, 2)
