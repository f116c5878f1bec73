"""What the processes of ``test_ledger_processes.py`` do. Run as a program: ``ledger_writers.py ROLE URL NAME``."""

from __future__ import annotations

import json
import sys
from datetime import timedelta

import ledger_samples as sample
from ledger_samples import digest

from tailorbird.ledger import open_ledger
from tailorbird.ports.ledger import Ledger

TTL = timedelta(minutes=10)
ROUNDS = 30


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


def forever(ledger: Ledger, name: str) -> list[str]:
    """Appends until it is killed; says each event's number only when it was acknowledged."""
    while True:
        with ledger.work("acme") as work:
            size = work.events.append([sample.event("acme", subject=f"writer-{name}")])
            work.records.put(sample.counts(size))
        sys.stdout.write(f"{size}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    role, url, name = sys.argv[1:]
    opened = open_ledger(url)
    sys.stdout.write(json.dumps({"migrate": migrate, "append": append, "steps": steps, "forever": forever}[role](opened, name)))
    opened.close()
