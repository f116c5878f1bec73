"""What every ledger must do with runs, their steps and the queue of what waits."""

from __future__ import annotations

from datetime import timedelta

import pytest

import support.ledger_samples as sample
from support.ledger_samples import digest, failure
from tailorbird.domain.errors import NotFound
from tailorbird.domain.run import Failure, StepProgress, StepState

MINUTE = timedelta(minutes=1)


class TestRuns:
    def test_a_run_of_the_same_inputs_is_the_same_run(self, ledger):
        first = sample.run("acme")
        with ledger.work("acme") as work:
            assert work.runs.add(first) == first
            again = first.model_copy(update={"id": "other", "created_by": "bob"})
            assert work.runs.add(again) == first
            assert work.runs.all() == (first,)

    def test_get_by_id_or_by_what_it_alone_starts_with(self, ledger):
        with ledger.work("acme") as work:
            for n in (1, 2, 13):
                work.runs.add(sample.run("acme", n))
            work.runs.add(sample.run("acme", 5).model_copy(update={"id": "run00"}))
            assert work.runs.get("run0013").id == work.runs.get("run001").id == "run0013"
            assert work.runs.get("run00").id == "run00"
            for wrong in ("run0", "RUN0013", "run_0", "%", "", "run0013x"):
                with pytest.raises(NotFound):
                    work.runs.get(wrong)


@pytest.fixture
def work(ledger):
    with ledger.work("acme") as opened:
        opened.runs.add(sample.run("acme"))
        yield opened


class TestSteps:
    def test_what_was_paid_stays_however_the_step_ends(self, work, clock):
        work.steps.enqueue("run0001", "make")
        work.steps.enqueue("run0001", "plan")
        first = work.steps.lease("run0001", "a", MINUTE)
        assert first.paid == 0.0
        work.steps.pay(first, 0.25)
        clock.move(60)
        second = work.steps.lease("run0001", "b", MINUTE)
        work.steps.pay(first, 0.5)  # under way when its lease was lost
        work.steps.fail(second, failure("late"))
        work.steps.pay(second, 1.0)
        work.steps.retry("run0001")
        done = work.steps.complete(work.steps.lease("run0001", "c", MINUTE), digest("result"), 1.5)
        assert done.paid == 1.75
        assert [step.paid for step in work.steps.of("run0001")] == [1.75, 0.0]

    def test_who_dies_in_a_step_is_counted_until_somebody_gets_further(self, work, clock):
        def die(seconds: float, done: int = 0) -> int:
            held = work.steps.lease("run0001", "a", MINUTE)
            clock.move(seconds)
            work.steps.heartbeat(held, MINUTE, StepProgress(done=done))
            clock.move(61)
            return held.deaths

        work.steps.enqueue("run0001", "train")
        assert [die(2), die(4), die(4), die(4, done=7), die(4, done=7)] == [0, 0, 1, 2, 1]
        held = work.steps.lease("run0001", "a", MINUTE)
        assert held.deaths == 2
        work.steps.fail(held, Failure(code="step_hopeless", message="m", hint="h"))
        work.steps.retry("run0001")
        assert die(4) == 0

    def test_a_failed_step_waits_for_retry(self, work):
        work.steps.enqueue("run0001", "plan")
        failed = work.steps.fail(work.steps.lease("run0001", "a", MINUTE), failure("exhausted: memory"))
        assert (failed.state, failed.error) == (StepState.FAILED, "exhausted: memory")
        assert (failed.message, failed.hint) == ("it failed: exhausted: memory", "try again")
        assert work.steps.of("run0001") == (failed,)
        assert work.steps.lease("run0001", "a", MINUTE) is None
        work.steps.retry("run0001")
        again = work.steps.lease("run0001", "b", MINUTE)
        assert (again.state, again.error, again.attempts) == (StepState.LEASED, None, 2)
        assert (again.message, again.hint) == (None, None)
