"""What a run pays to endpoints: on record one batch after it was paid, whatever ends the step, and counted against the budget."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from support.doubles import MemoryEndpoint
from support.hosted import MODEL, NAMED, allow, endpoint, hosting, last_word, register
from support.usecases import write_objective
from tailorbird.domain.ladder import Ladder, RungKind
from tailorbird.domain.prompt import Message
from tailorbird.domain.run import RunState, Step
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.runs import submit as climbing
from tailorbird.usecases.runs.engine import WorkedRun

#: Prices at which every word that is read costs as much, and answers nothing.
PRICED = {"input_price": 100.0, "output_price": 0.0}


def words(client: MemoryEndpoint) -> float:
    """What everything that was asked has cost."""
    return 100e-6 * sum(len(message.content.split()) for prompt in client.asked for message in prompt)


def outside(deps: Dependencies, client: MemoryEndpoint, **changes: object) -> Dependencies:
    deps = hosting(deps, client)
    register(deps, endpoint(**(PRICED | changes)))
    allow(deps, "outside")
    return deps


def begun(deps: Dependencies, author: Actor, folder: Path, **changes: object) -> tuple[Path, str]:
    """An objective that asks the endpoint, and its run."""
    path = write_objective(folder / "job", **({"ladder": ["prompt", "hosted"]} | changes), **NAMED)
    return path, climbing.submit(deps, author, path, RunState.ACTIVE).id


def steps(deps: Dependencies, run: str) -> dict[str, Step]:
    with deps.ledger.work("acme", write=False) as work:
        return {step.name: step for step in work.steps.of(run)}


def paid(deps: Dependencies, run: str) -> float:
    return sum(step.paid for step in steps(deps, run).values())


def adapt(deps: Dependencies, author: Actor, path: Path) -> WorkedRun:
    return climbing.adapt(deps, author, path, Progress())


def ladder_of(deps: Dependencies, worked: WorkedRun) -> Ladder:
    with deps.ledger.work("acme", write=False) as work:
        return work.records.get(Ladder, worked.conclusion.ladder)


def test_all_that_a_run_pays_is_on_record(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    client = MemoryEndpoint(last_word, model=MODEL)
    deps = outside(deps, client)
    path, run = begun(deps, author, tmp_path, ladder=["hosted"])
    assert adapt(deps, author, path).conclusion is not None
    assert paid(deps, run) == pytest.approx(words(client))
    found = steps(deps, run)
    assert found["test"].paid > 0
    assert found["plan"].paid == 0


def test_money_that_is_used_up_while_measuring_ends_the_climb_in_order(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    client = MemoryEndpoint(lambda prompt: 60 * "well, " + last_word(prompt), model=MODEL)  # more words than the plan foresees
    deps = outside(deps, client, output_price=100.0)
    path, run = begun(deps, author, tmp_path, budget={"money": 0.3, "hours": 1})
    worked = adapt(deps, author, path)
    ladder = ladder_of(deps, worked)
    reasons = [refusal.reason for refusal in ladder.refused if refusal.rung is RungKind.HOSTED]
    assert any("ended while it was being measured" in reason and "budget" in reason for reason in reasons), reasons
    assert "make hosted few-shot" not in steps(deps, run), "the climb ends; the next rung would have nothing to spend"
    assert ladder.chosen is not None, "what was measured before is released"
    asked = len(client.asked)
    assert 0.3 <= paid(deps, run) < 0.3 + 4 * 100e-6 * 120
    adapt(deps, author, path)
    assert len(client.asked) == asked


@pytest.mark.parametrize("step", ["measure hosted zero-shot", "test"])
def test_a_step_that_is_killed_has_paid(deps: Dependencies, author: Actor, tmp_path: Path, step: str) -> None:
    client = MemoryEndpoint(last_word, model=MODEL)
    deps = outside(deps, client)
    path, run = begun(deps, author, tmp_path, ladder=["hosted"])
    into = 0

    def answering(prompt: Sequence[Message]) -> str:
        nonlocal into
        state = steps(deps, run)
        into += step in state and state[step].state == "leased"
        if into == 22:
            raise KeyboardInterrupt
        return last_word(prompt)

    client.answering = answering
    with pytest.raises(KeyboardInterrupt):
        adapt(deps, author, path)
    before = steps(deps, run)[step].paid
    whole = words(client)
    assert before > 0
    assert paid(deps, run) == pytest.approx(whole, abs=4 * 100e-6 * 60), "all but the last batch"
    assert adapt(deps, author, path).conclusion is not None
    assert paid(deps, run) == pytest.approx(words(client), abs=4 * 100e-6 * 60)
    assert steps(deps, run)[step].paid > before, "what it paid before counts with what it pays now"


def test_a_look_that_cannot_be_paid_is_not_begun(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    """Dev takes most of the budget; what is left is too little for the sealed test."""
    client = MemoryEndpoint(last_word, model=MODEL)
    first = outside(deps, client)
    path, run = begun(first, author, tmp_path, ladder=["hosted"])
    adapt(first, author, path)
    known = steps(first, run)
    sent = len(client.asked)
    money = known["make hosted zero-shot"].paid + known["measure hosted zero-shot"].paid + known["test"].paid / 2
    budget = {"money": money, "hours": 1}
    path = write_objective(tmp_path / "poor", name="poor", ladder=["hosted"], budget=budget, **NAMED)
    worked = adapt(first, author, path)
    assert worked.conclusion.release is None
    assert "a look at it would cost about" in worked.conclusion.reason
    with deps.ledger.work("acme", write=False) as work:
        assert work.looks.count("poor") == 0
        assert not [e for e in work.events.entries() if e.event.data.get("objective") == "poor" and e.event.data.get("split") == "test"]
    assert len(client.asked) > sent
