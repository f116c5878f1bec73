"""Rungs that cannot be measured: what is evidence, what is tried again, and what the record says of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from support.doubles import MemoryEngine
from support.usecases import VIEWER, write_objective
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import Exhausted, InvalidInput, LeaseLost, TailorbirdError, Unavailable
from tailorbird.domain.ladder import RungKind
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.runs.context import ended_by
from tailorbird.usecases.runs.queries import show_run
from tailorbird.usecases.runs.submit import adapt


class Fragile(MemoryEngine):
    """Breaks when an adapter is loaded."""

    error: Exception = InvalidInput("a row is too long for the model", "shorten it", code="too_long")

    def load(self, servable: Servable, *, pinned: bool = False) -> None:
        if servable.adapter is not None:
            raise self.error
        super().load(servable, pinned=pinned)


class Defective(Fragile):
    """The same with an error that is not ours, and whose words may be a row's."""

    error = ZeroDivisionError("a row's text could stand here")


class Away(Fragile):
    """The same with an error that says nothing about the rung."""

    error = Unavailable("the store is away", "wait", code="storage_unreachable")


def hard(folder: Path) -> Path:
    return write_objective(folder, hard_share=2, ladder=["prompt", "lora", "full"])


@pytest.mark.parametrize(
    ("engine", "said"), [(Fragile, "a row is too long for the model [too_long]"), (Defective, "it broke off with ZeroDivisionError")]
)
def test_a_rung_that_cannot_be_measured_is_evidence_and_the_ladder_goes_on(
    deps: Dependencies, author: Actor, tmp_path: Path, engine: type[Fragile], said: str
) -> None:
    broken = engine()
    run = adapt(replace(deps, engine=lambda: broken), author, hard(tmp_path / "hard"), Progress()).run
    told = show_run(deps, VIEWER, run.id)
    assert {climb.rung for climb in told.climbs} == {RungKind.PROMPT, RungKind.FULL} == {climb.rung for climb in told.ladder.climbs}
    (refused,) = [refusal.reason for refusal in told.ladder.refused if refusal.rung is RungKind.LORA]
    assert refused == f"failed while it was being measured: {said}"
    assert told.conclusion is not None


def test_what_says_nothing_about_the_rung_is_tried_again(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    path, away = hard(tmp_path / "hard"), Away()
    with pytest.raises(Unavailable):
        adapt(replace(deps, engine=lambda: away), author, path, Progress())
    told = show_run(deps, VIEWER, adapt(deps, author, path, Progress()).run.id)
    assert RungKind.LORA in {climb.rung for climb in told.climbs}


@pytest.mark.parametrize(
    ("error", "failed"),
    [
        (InvalidInput("m", "h", code="x"), True),
        (Exhausted("m", "h", code="memory"), True),
        (KeyError("x"), True),
        (Exhausted("m", "h", code="budget_spent"), False),
        (LeaseLost("m", "h"), None),
        (OSError("full"), None),
    ],
)
def test_what_an_error_means(error: TailorbirdError | OSError, failed: bool | None) -> None:
    made = ended_by(error)
    assert (None if made is None else made.failed) is failed
