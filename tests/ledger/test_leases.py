"""The lease machine and the queue, driven at random by workers that die, sleep and wake, against a model in a few lines; and two workers
who share a queue."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule, run_state_machine_as_test

import support.ledger_samples as sample
from support.ledger_samples import SetClock, digest
from tailorbird.domain.errors import LeaseLost
from tailorbird.domain.run import Failure, RunState, Step, StepProgress, StepState
from tailorbird.ledger import Ledger
from tailorbird.ports.clock import Clock

NAMES = ("plan", "climb", "release")
OUT_OF_MEMORY = Failure(code="memory", message="it took more than the budget", hint="raise budget.memory_gb")
OWNERS = st.sampled_from(["a", "b", "c"])
TTL = timedelta(seconds=30)


class LeaseMachine(RuleBasedStateMachine):
    """``leases`` are all steps ever handed out. At most one lease of a step is current: the model says which."""

    open_fresh: Callable[[Path, Clock], Ledger]
    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.clock = SetClock()
        self.ledger = type(self).open_fresh(Path(self.folder.name), self.clock)
        self.state = dict.fromkeys(NAMES, StepState.READY)
        self.holder: dict[str, Step] = {}
        self.until = dict.fromkeys(NAMES, self.clock.now())
        self.results: dict[str, str] = {}
        self.progress: dict[str, StepProgress] = {}
        self.run_state = RunState.ACTIVE

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

    @rule(step=leases, done=st.none() | st.integers(1, 9))
    def heartbeat(self, step: Step, done: int | None) -> None:
        told = None if done is None else sample.progress(done)
        if self.is_current(step):
            self.call("heartbeat", step, TTL, told)
            self.until[step.name] = self.clock.now() + TTL
            self.progress |= {step.name: told} if told else {}
        else:
            with pytest.raises(LeaseLost):
                self.call("heartbeat", step, TTL, told)

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
            self.call("fail", step, OUT_OF_MEMORY)
            self.state[step.name] = StepState.FAILED
        else:
            with pytest.raises(LeaseLost):
                self.call("fail", step, OUT_OF_MEMORY)

    @rule(step=leases)
    def release(self, step: Step) -> None:
        self.call("release", step)
        if self.is_current(step):
            self.state[step.name] = StepState.READY

    @rule()
    def retry(self) -> None:
        self.call("retry", "run0001")
        self.state = {n: StepState.READY if s is StepState.FAILED else s for n, s in self.state.items()}

    @rule(state=st.sampled_from(RunState))
    def set_state(self, state: RunState) -> None:
        with self.ledger.work("acme") as work:
            work.runs.set_state("run0001", state)
        self.run_state = state

    @invariant()
    def the_queue_agrees(self) -> None:
        with self.ledger.system(write=False) as system:
            waiting = system.queue.waiting()
        held = any(self.state[n] is StepState.LEASED and self.until[n] > self.clock.now() for n in NAMES)
        waits = self.run_state in (RunState.ACTIVE, RunState.PLANNING) and not held
        assert [run.id for run in waiting] == (["run0001"] if waits else [])

    @invariant()
    def the_record_agrees(self) -> None:
        with self.ledger.work("acme", write=False) as work:
            steps = {step.name: step for step in work.steps.of("run0001")}
        assert {name: step.state for name, step in steps.items()} == (self.state if steps else {})
        assert {name: step.result for name, step in steps.items() if step.result} == self.results
        assert {name: step.progress for name, step in steps.items() if step.progress} == self.progress

    def is_current(self, step: Step) -> bool:
        return self.state[step.name] is StepState.LEASED and self.holder[step.name] == step


def test_leases(open_fresh):
    run_state_machine_as_test(
        type("Machine", (LeaseMachine,), {"open_fresh": staticmethod(open_fresh)}),
        settings=settings(max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)),
    )
