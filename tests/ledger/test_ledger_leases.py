"""The lease machine, driven at random by workers that die, sleep and wake, against a model in a few lines."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import ledger_samples as sample
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule, run_state_machine_as_test
from ledger_samples import SetClock, digest

from tailorbird.domain.errors import LeaseLost
from tailorbird.domain.run import Step, StepState
from tailorbird.ledger import open_ledger

NAMES = ("plan", "climb", "release")
OWNERS = st.sampled_from(["a", "b", "c"])
TTL = timedelta(seconds=30)


class LeaseMachine(RuleBasedStateMachine):
    """``leases`` are all steps ever handed out. At most one lease of a step is current: the model says which."""

    fresh: Callable[[Path], str]
    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = SetClock()
        self.ledger = open_ledger(type(self).fresh(Path(self.folder.name)), clock=self.clock)
        self.state = dict.fromkeys(NAMES, StepState.READY)
        self.holder: dict[str, Step] = {}
        self.until = dict.fromkeys(NAMES, self.clock.now())
        self.results: dict[str, str] = {}

    def teardown(self) -> None:
        self.ledger.close()
        self.folder.cleanup()

    def call(self, method: str, *args: object) -> Step | None:
        with self.ledger.work("acme") as work:
            return getattr(work.steps, method)(*args)

    @initialize()
    def enqueue(self) -> None:
        with self.ledger.work("acme") as work:
            work.runs.add(sample.run("acme"))
            for name in NAMES:
                work.steps.enqueue("run0001", name)

    @rule(target=leases, owner=OWNERS)
    def lease(self, owner: str) -> object:
        now = self.clock.now()
        free = [n for n in NAMES if self.state[n] is StepState.READY or (self.state[n] is StepState.LEASED and self.until[n] <= now)]
        step = self.call("lease", "run0001", owner, TTL)
        assert (step.name if step else None) == (free[0] if free else None)
        if step is None:
            return multiple()
        assert step.owner == owner
        self.state[step.name], self.holder[step.name], self.until[step.name] = StepState.LEASED, step, now + TTL
        return step

    @rule(seconds=st.integers(1, 40))
    def time_passes(self, seconds: int) -> None:
        self.clock.move(seconds)

    @rule(step=leases)
    def heartbeat(self, step: Step) -> None:
        if self.is_current(step):
            self.call("heartbeat", step, TTL)
            self.until[step.name] = self.clock.now() + TTL
        else:
            with pytest.raises(LeaseLost):
                self.call("heartbeat", step, TTL)

    @rule(step=consumes(leases))
    def complete(self, step: Step) -> None:
        result = digest((step.name, step.attempts))
        if self.is_current(step):
            assert self.call("complete", step, result, 1.0).result == result
            self.state[step.name], self.results[step.name] = StepState.DONE, result
        else:
            with pytest.raises(LeaseLost):
                self.call("complete", step, result, 1.0)

    @rule(step=leases)
    def fail(self, step: Step) -> None:
        if self.is_current(step):
            self.call("fail", step, "exhausted: memory")
            self.state[step.name] = StepState.FAILED
        else:
            with pytest.raises(LeaseLost):
                self.call("fail", step, "exhausted: memory")

    @rule(step=leases)
    def release(self, step: Step) -> None:
        self.call("release", step)
        if self.is_current(step):
            self.state[step.name] = StepState.READY

    @rule()
    def retry(self) -> None:
        self.call("retry", "run0001")
        self.state = {n: StepState.READY if s is StepState.FAILED else s for n, s in self.state.items()}

    @invariant()
    def the_record_agrees(self) -> None:
        with self.ledger.work("acme", write=False) as work:
            steps = {step.name: step for step in work.steps.of("run0001")}
        assert {name: step.state for name, step in steps.items()} == (self.state if steps else {})
        assert {name: step.result for name, step in steps.items() if step.result} == self.results

    def is_current(self, step: Step) -> bool:
        return self.state[step.name] is StepState.LEASED and self.holder[step.name] == step


def test_leases(fresh_sqlite):
    class Machine(LeaseMachine):
        fresh = staticmethod(fresh_sqlite)

    run_state_machine_as_test(
        Machine,
        settings=settings(max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)),
    )
