"""What every ledger must do with runs, their steps and the queue of what waits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

import support.ledger_samples as sample
from support.ledger_samples import START, digest, failure
from tailorbird.domain.errors import Conflict, NotFound
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

    def test_an_id_of_another_run_is_refused(self, ledger):
        with ledger.work("acme") as work:
            work.runs.add(sample.run("acme"))
            with pytest.raises(Conflict):
                work.runs.add(sample.run("acme").model_copy(update={"fingerprint": digest("other")}))

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

    def test_latest_is_a_page_of_all(self, ledger):
        with ledger.work("acme") as work:
            assert (work.runs.latest(), work.runs.count()) == ((), 0)
            for n in range(1, 8):
                work.runs.add(sample.run("acme", n))
            assert work.runs.count() == 7
            assert [run.id for run in work.runs.latest(3)] == ["run0007", "run0006", "run0005"]
            assert [run.id for run in work.runs.latest(3, skip=5)] == ["run0002", "run0001"]
            assert work.runs.latest(3, skip=7) == ()

    def test_the_newest_run_of_each_objective(self, ledger):
        with ledger.work("acme") as work, ledger.work("globex", write=False) as other:
            assert work.runs.newest_by_objective() == ()
            for n in range(1, 8):
                work.runs.add(sample.run("acme", n).model_copy(update={"objective_name": ("b", "a", "c")[n % 3], "created_at": START}))
            assert [(run.objective_name, run.id) for run in work.runs.newest_by_objective()] == [
                ("a", "run0007"),
                ("b", "run0006"),
                ("c", "run0005"),
            ]
            assert other.runs.newest_by_objective() == ()

    def test_times_come_back_in_utc(self, ledger):
        local = datetime(2026, 3, 1, 1, 2, 3, 456789, tzinfo=timezone(timedelta(hours=9)))
        with ledger.work("acme") as work:
            kept = work.runs.add(sample.run("acme").model_copy(update={"created_at": local}))
        assert kept.created_at == local
        assert kept.created_at.tzinfo is UTC


@pytest.fixture
def work(ledger):
    with ledger.work("acme") as opened:
        opened.runs.add(sample.run("acme"))
        yield opened


class TestSteps:
    def test_enqueue_is_idempotent_and_keeps_order(self, work):
        for name in ("snapshot", "plan", "climb", "plan"):
            work.steps.enqueue("run0001", name)
        assert [(s.name, s.position, s.state) for s in work.steps.of("run0001")] == [
            ("snapshot", 1, StepState.READY),
            ("plan", 2, StepState.READY),
            ("climb", 3, StepState.READY),
        ]

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

    def test_who_gives_a_step_back_is_no_dead_one(self, work, clock):
        work.steps.enqueue("run0001", "train")
        for _ in range(3):
            held = work.steps.lease("run0001", "a", MINUTE)
            clock.move(30)
            work.steps.heartbeat(held, MINUTE)
            work.steps.release(held)
        assert held.deaths == 0

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

    def test_the_last_step_is_done_again_where_it_is_named(self, work):
        for name in ("freeze", "plan"):
            work.steps.enqueue("run0001", name)
            work.steps.complete(work.steps.lease("run0001", "a", MINUTE), digest("r"), 1.0)
        assert work.steps.retry("run0001", done="freeze") == 0, "a later one rests on it"
        assert work.steps.retry("run0001", done="plan") == 1
        freeze, plan = work.steps.of("run0001")
        assert (freeze.state, plan.state, plan.result) == (StepState.DONE, StepState.READY, None)
        assert work.steps.lease("run0001", "b", MINUTE).name == "plan"


class TestQueue:
    def test_runs_of_all_tenants_stand_in_one_line(self, ledger):
        for tenant, n in (("globex", 3), ("acme", 4), ("globex", 1), ("acme", 2)):
            with ledger.work(tenant) as work:
                work.runs.add(sample.run(tenant, n))
        with ledger.system(write=False) as system:
            assert [run.id for run in system.queue.waiting()] == ["run0001", "run0002", "run0003", "run0004"]
            assert [run.id for run in system.queue.waiting(2)] == ["run0001", "run0002"]

    def test_a_run_of_the_same_id_in_another_tenant_is_another_run(self, ledger):
        for tenant in ("acme", "globex"):
            with ledger.work(tenant) as work:
                work.runs.add(sample.run(tenant))
                work.steps.enqueue("run0001", "plan")
        with ledger.work("acme") as work:
            work.steps.lease("run0001", "a", MINUTE)
        with ledger.system(write=False) as system:
            assert [run.tenant for run in system.queue.waiting()] == ["globex"]
