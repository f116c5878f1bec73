"""What the processes of ``test_processes.py`` do. Run as a program: ``ledger_writers.py ROLE URL NAME``."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from itertools import count
from typing import NoReturn

import support.ledger_samples as sample
from support.ledger_samples import digest
from tailorbird.domain.run import RunState, Step
from tailorbird.ledger import Ledger, open_ledger

TTL = timedelta(minutes=2)
ROUNDS = 30

#: How many steps each run has in ``queue``.
STEPS = 3


def migrate(ledger: Ledger, name: str) -> list[str]:
    ledger.migrate()
    with ledger.system() as system:
        return [str(system.events.append([sample.event("acme", subject=name)]))]


def append(ledger: Ledger, name: str) -> list[str]:
    """Changes state and appends an event, in one transaction, again and again."""
    for n in range(ROUNDS):
        with ledger.work("acme") as work:
            work.records.put(sample.counts(1000 * int(name) + n))
            work.events.append([sample.event("acme", n, subject=f"writer-{name}")])
    return []


def steps(ledger: Ledger, name: str) -> list[str]:
    """Works until nothing is left to do; says which steps it finished."""
    finished = []
    while True:
        with ledger.work("acme") as work:
            step = work.steps.lease("run0001", name, TTL)
        if step is None:
            return finished
        with ledger.work("acme") as work:
            work.steps.complete(step, digest((name, step.name)), 0.1)
            work.events.append([sample.event("acme", step.position, subject=step.name)])
        finished.append(step.name)


def queue(ledger: Ledger, name: str) -> list[str]:
    """A worker as they are: takes the oldest run that waits, does one step of it, until no run waits; says which steps it finished.

    A run goes from its first step to the next when the first is done, as a climb does.
    """
    finished = []
    while True:
        with ledger.system(write=False) as system:
            waiting = system.queue.waiting()
        if not waiting:
            return finished
        for run in waiting:
            with ledger.work(run.tenant) as work:
                step = work.steps.lease(run.id, name, TTL)
            if step is not None:
                finished.append(f"{run.tenant}/{run.id}/{step.name}")
                finish(ledger, step)
                break


def finish(ledger: Ledger, step: Step) -> None:
    with ledger.work(step.tenant) as work:
        work.steps.complete(step, digest(step.name), 0.1)
        if step.position < STEPS:
            work.steps.enqueue(step.run, f"step-{step.position + 1}")
        else:
            work.runs.set_state(step.run, RunState.DONE)
        work.events.append([sample.event(step.tenant, step.position, subject=step.run)])


def forever(ledger: Ledger, name: str) -> NoReturn:
    """Appends until it is killed; says each event's number only when it was acknowledged."""
    for n in count():
        with ledger.work("acme") as work:
            work.records.put(sample.counts(1_000_000 * int(name) + n))
            size = work.events.append([sample.event("acme", subject=f"writer-{name}")])
        sys.stdout.write(f"{size}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    role, url, name = sys.argv[1:]
    opened = open_ledger(url)
    sys.stdout.write(
        json.dumps({"migrate": migrate, "append": append, "steps": steps, "queue": queue, "forever": forever}[role](opened, name))
    )
    opened.close()
