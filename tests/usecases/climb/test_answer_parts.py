"""Answers of other nodes to parts of a candidate's items: the same questions in the same company, taken where they are whole, and gone when
they are wanted no more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from support.usecases import write_objective
from tailorbird.domain.dataset import Split
from tailorbird.domain.errors import Conflict
from tailorbird.domain.evidence import ItemResult
from tailorbird.domain.ladder import Candidate, Climb, Making
from tailorbird.domain.prompt import Message
from tailorbird.domain.run import RunState, StepState
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import LabelScores
from tailorbird.testing import FixedClock, MemoryEngine
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.climb.answer_parts import (
    AnswerPart,
    GivenAnswers,
    Helper,
    answer_parts,
    parts_of,
    rows_by_group,
)
from tailorbird.usecases.climb.rungs import measure_candidate
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.runs import submit as climbing
from tailorbird.usecases.runs.jobs import cancel_run
from tailorbird.usecases.runs.placed_answers import goes_on_aside, help_placed
from tailorbird.usecases.runs.step_placement import HelpTask
from tailorbird.usecases.runs.step_runner import LEASE, RUN_CANCELLED, plan_for
from tailorbird.usecases.steps import transitions
from tailorbird.usecases.steps.step_context import StepContext

ALONE = Helper(0, 1)


class AskedEngine(MemoryEngine):
    """Keeps the texts of each call; others may call it by another name."""

    def __init__(self, name: str = "") -> None:
        super().__init__()
        self.calls, self.name = list[tuple[str, ...]](), name

    def score(self, servable: Digest, prompts: Sequence[Sequence[Message]], labels: Sequence[str]) -> list[LabelScores]:
        self.calls.append(tuple(prompt[-1].content for prompt in prompts))
        return super().score(servable, prompts, labels)

    def fingerprint(self) -> str:
        return self.name or super().fingerprint()


class Measuring:
    """A run whose first candidate is made, and whose step of measuring is held by somebody."""

    def __init__(self, deps: Dependencies, author: Actor, path: Path) -> None:
        self.deps, self.author, self.path = deps, author, path
        run = climbing.submit(deps, author, path, RunState.ACTIVE)
        planned = plan_for(deps, author, run, Progress())
        assert planned.plan is not None
        self.rung, self.next = planned.plan.rungs[:2]
        self.step = transitions.measure_step(self.rung)
        context = plan_for(deps, author, run, Progress(), until=transitions.make_step(self.rung))
        self.made = str(context.result(Making, transitions.make_step(self.rung)).candidate)
        with deps.ledger.work("acme") as work:
            work.steps.enqueue(run.id, self.step)
            self.held = work.steps.lease(run.id, "somebody", LEASE)
        self.run = run.id

    @property
    def context(self) -> StepContext:
        """As a node sees the run now."""
        with self.deps.ledger.work("acme", write=False) as work:
            run = work.runs.get(self.run)
        return replace(plan_for(self.deps, self.author, run, Progress()), placed=True)

    def by(self, engine: MemoryEngine) -> StepContext:
        return replace(self.context, deps=replace(self.deps, engine=lambda: engine))

    def given(self, context: StepContext | None = None, candidate: str = "") -> GivenAnswers:
        return GivenAnswers(context or self.context, self.step, candidate or self.made)

    def help(self, engine: MemoryEngine, node: Helper = ALONE) -> int:
        context = self.by(engine)
        return answer_parts(context, context.record(Candidate, self.made), self.given(context), node)

    def measured(self, engine: MemoryEngine) -> list[ItemResult]:
        """The items' results without the times that answers took, which no two measurements have alike."""
        climb = measure_candidate(self.by(engine), self.rung).value
        assert isinstance(climb, Climb)
        untimed = {"latency_ms": 0.0, "request_ms": None}
        return [item.model_copy(update=untimed) for item in self.context.items(climb.evidence.items)]

    def parts(self) -> tuple[AnswerPart, ...]:
        return parts_of(rows_by_group(self.context))

    def answers(self) -> dict[str, Digest]:
        return self.given().known()


@pytest.fixture
def measuring(deps: Dependencies, author: Actor, tmp_path: Path) -> Measuring:
    return Measuring(deps, author, write_objective(tmp_path / "job", ladder=["prompt"]))


def test_others_ask_what_would_have_been_asked_in_the_same_company(measuring: Measuring) -> None:
    """Sums are rounded by the company that a request has in its batch, so the same chunks are asked, whoever asks them."""
    alone, other, helped = AskedEngine(), AskedEngine(), AskedEngine()
    undisturbed = measuring.measured(alone)
    assert len(undisturbed) == len(measuring.context.rows(Split.DEV))
    parts = measuring.parts()
    assert len(parts) == 2
    assert measuring.help(other) == len(parts)
    assert other.calls == alone.calls[:79:-1], "from the last to the first; nothing that is timed"
    assert measuring.measured(helped) == undisturbed
    assert helped.calls == alone.calls[:80]


def test_whoever_measures_goes_on_where_others_have_come(measuring: Measuring) -> None:
    """A node that died leaves what it had answered; the rest is asked."""
    alone, helped = AskedEngine(), AskedEngine()
    undisturbed = measuring.measured(alone)

    class Dies(AskedEngine):
        def score(self, servable: Digest, prompts: Sequence[Sequence[Message]], labels: Sequence[str]) -> list[LabelScores]:
            if len(self.calls) == 1:
                raise RuntimeError
            return super().score(servable, prompts, labels)

    with pytest.raises(RuntimeError):
        measuring.help(Dies())
    assert list(measuring.answers()) == [measuring.parts()[-1].name]
    assert measuring.measured(helped) == undisturbed
    assert helped.calls == alone.calls[:-1]


def test_what_was_answered_by_another_engine_or_of_something_else_is_asked_again(measuring: Measuring) -> None:
    alone = AskedEngine()
    measuring.measured(alone)
    measuring.help(AskedEngine("another processor"))
    asked = AskedEngine()
    measuring.measured(asked)
    assert asked.calls == alone.calls
    part = measuring.parts()[0]
    found = measuring.given().given(AskedEngine("another processor").fingerprint(), part.group)(part.start, part.stop)
    assert found is not None
    assert len(found) == part.stop - part.start
    other = measuring.given(candidate="sha256:" + "0" * 64)
    assert other.given("another processor", part.group)(part.start, part.stop) is None


def test_what_is_gone_or_damaged_is_asked_again(measuring: Measuring) -> None:
    alone, asked = AskedEngine(), AskedEngine()
    undisturbed = measuring.measured(alone)
    measuring.help(AskedEngine())
    gone, damaged = list((parts := measuring.answers()).items())[:2]
    measuring.deps.artifacts.destroy(gone[1])
    with measuring.deps.ledger.work("acme") as work:
        work.steps.forget_answers(measuring.run, measuring.step, parts)
        work.steps.note_answers(measuring.run, measuring.step, *gone)
        work.steps.note_answers(measuring.run, measuring.step, damaged[0], measuring.deps.artifacts.put(b"no answers"))
    assert measuring.measured(asked) == undisturbed
    assert len(asked.calls) == 82


@pytest.mark.parametrize("ended", ["done", "cancelled"])
def test_answers_that_are_wanted_no_more_are_not_kept(measuring: Measuring, ended: str) -> None:
    """An erasure cancels its runs: what is answered after that must not come to lie anywhere."""
    with measuring.deps.ledger.work("acme") as work:
        if ended == "done":
            assert measuring.held is not None
            work.steps.complete(measuring.held, measuring.made, 1.0)
        else:
            work.runs.set_state(measuring.run, RunState.CANCELLED)
    before = set(measuring.deps.artifacts.digests())
    assert measuring.help(AskedEngine()) == 0
    part = measuring.parts()[0]
    assert not measuring.given().put("engine", part, [])
    assert set(measuring.deps.artifacts.digests()) == before
    assert measuring.answers() == {}


@pytest.mark.parametrize("holder", ["nobody", "gone", "alive"])
def test_answers_go_when_a_run_is_cancelled_whoever_holds_it(measuring: Measuring, holder: str) -> None:
    """They stayed for good: who would have taken them away was the process that held the step, which may be killed as well."""
    help_placed(measuring.deps, measuring.author, help_task(measuring), Progress())
    given = measuring.answers()
    assert given
    clock = measuring.deps.clock
    assert isinstance(clock, FixedClock)
    if holder == "nobody":
        with measuring.deps.ledger.work("acme") as work:
            assert measuring.held is not None
            work.steps.release(measuring.held)
    elif holder == "gone":
        clock.advance(LEASE * 2)
    cancel_run(measuring.deps, measuring.author, measuring.run)
    left = {digest for digest in given.values() if measuring.deps.artifacts.exists(digest)}
    with measuring.deps.ledger.work("acme", write=False) as work:
        counted = work.storage.counted(given.values())
    assert (measuring.answers(), left, counted) == ({}, set(), set())


def test_answers_go_when_a_run_is_cancelled_while_its_step_is_done(measuring: Measuring) -> None:
    help_placed(measuring.deps, measuring.author, help_task(measuring), Progress())
    given = measuring.answers()
    with measuring.deps.ledger.work("acme") as work:
        assert measuring.held is not None
        work.steps.release(measuring.held)

    class Cancelled(AskedEngine):
        def score(self, servable: Digest, prompts: Sequence[Sequence[Message]], labels: Sequence[str]) -> list[LabelScores]:
            with measuring.deps.ledger.work("acme") as work:
                work.runs.set_state(measuring.run, RunState.CANCELLED)
            raise Conflict("the run was cancelled", "adapt again", code=RUN_CANCELLED)

    with pytest.raises(Conflict):
        climbing.adapt(replace(measuring.deps, engine=lambda: Cancelled()), measuring.author, measuring.path, Progress())
    assert measuring.answers() == {}
    assert not [digest for digest in given.values() if measuring.deps.artifacts.exists(digest)]


def test_answers_go_when_the_step_is_done(measuring: Measuring) -> None:
    help_placed(measuring.deps, measuring.author, help_task(measuring), Progress())
    given = measuring.answers()
    with measuring.deps.ledger.work("acme", write=False) as work:
        assert work.storage.counted(given.values()) == set(given.values()) != set()
    with measuring.deps.ledger.work("acme") as work:
        assert measuring.held is not None
        work.steps.release(measuring.held)
    climbing.adapt(measuring.deps, measuring.author, measuring.path, Progress())
    assert measuring.answers() == {}
    assert not [digest for digest in given.values() if measuring.deps.artifacts.exists(digest)]
    with measuring.deps.ledger.work("acme", write=False) as work:
        assert {step.state for step in work.steps.of(measuring.run)} == {StepState.DONE}
        assert not work.storage.counted(given.values())


def test_a_part_that_two_answer_is_kept_once(measuring: Measuring) -> None:
    """What has no name in the record is found by no erasure."""
    part, given = measuring.parts()[0], measuring.given()
    before = set(measuring.deps.artifacts.digests())
    assert given.put("one engine", part, [])
    first = given.known()
    assert not given.put("another", part, [])
    assert given.known() == first
    assert set(measuring.deps.artifacts.digests()) - before == set(first.values())


def test_what_is_stored_is_counted_before_whoever_measures_can_destroy_it(measuring: Measuring, deps: Dependencies, author: Actor) -> None:
    """Else bytes that are gone would count for ever."""
    seen = list[set[str]]()

    class Looks(AskedEngine):
        def score(self, servable: Digest, prompts: Sequence[Sequence[Message]], labels: Sequence[str]) -> list[LabelScores]:
            with deps.ledger.work("acme", write=False) as work:
                seen.append(set(work.storage.counted(measuring.answers().values())))
            return super().score(servable, prompts, labels)

    help_placed(replace(deps, engine=Looks), author, help_task(measuring), Progress())
    assert [len(counted) for counted in seen] == [0, 1]


def test_nodes_share_the_parts_and_take_what_others_leave() -> None:
    parts = [AnswerPart("items", start, start + 32) for start in range(80, 240, 32)]
    first, second = (Helper(number, 2).order(parts) for number in (0, 1))
    assert [part.start for part in first] == [208, 144, 80, 176, 112]
    assert [part.start for part in second] == [176, 112, 208, 144, 80]


def help_task(measuring: Measuring, **changes: object) -> HelpTask:
    about = {"workspace": "/w", "settings": "sha256:" + "0" * 64, "tenant": "acme", "actor": "author", "run": measuring.run}
    task = {"step": measuring.step, "cores": 1, "mark": f"placed-{'0' * 32}", "number": 0, "among": 1}
    return HelpTask.model_validate(about | task | changes)


def test_a_node_that_helps_needs_no_lease_and_counts_what_it_stores(measuring: Measuring, deps: Dependencies, author: Actor) -> None:
    parts = measuring.parts()
    assert help_placed(deps, author, help_task(measuring), Progress()) == len(parts)
    with deps.ledger.work("acme", write=False) as work:
        assert work.storage.counted(measuring.answers().values()) == set(measuring.answers().values())
        step = next(step for step in work.steps.of(measuring.run) if step.name == measuring.step)
        assert (step.state, step.owner, step.attempts) == (StepState.LEASED, "somebody", 1)
    assert help_placed(deps, author, help_task(measuring), Progress()) == 0, "all is answered"
    assert help_placed(deps, author, help_task(measuring, step=transitions.measure_step(measuring.next)), Progress()) == 0, (
        "nothing is made yet"
    )


def test_a_node_helps_once_more_while_something_is_to_be_measured(
    measuring: Measuring, deps: Dependencies, author: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tailorbird.usecases.runs import step_placement

    held = [0.1]
    monkeypatch.setattr(step_placement, "resident_gib", lambda: held[0])
    assert goes_on_aside(deps, author, help_task(measuring))
    held[0] = 1000.0
    assert not goes_on_aside(deps, author, help_task(measuring)), "it holds more than is booked"
    held[0] = 0.1
    with deps.ledger.work("acme") as work:
        work.runs.set_state(measuring.run, RunState.CANCELLED)
    assert not goes_on_aside(deps, author, help_task(measuring))
    assert not goes_on_aside(deps, act_as(deps, "acme", "author"), help_task(measuring, run="none"))
