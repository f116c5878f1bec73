"""One of the processes that append at once: ``writer.py URL NAME BATCHES BATCH``. It says when it is ready and starts when it is told."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from tailorbird.domain.event import Event
from tailorbird.ledger import open_ledger


def event(name: str, number: int) -> Event:
    """An event as a finished step leaves it: some 300 bytes."""
    return Event(
        kind="step.completed",
        tenant="acme",
        actor=name,
        subject=f"run-{number % 100:04d}",
        at=datetime.now(UTC),
        data={"step": "evaluate", "number": number, "seconds": 1.25, "result": "sha256:" + f"{number:064x}"},
    )


def main() -> None:
    url, name, batches, batch = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    ledger = open_ledger(url)
    with ledger.system(write=False) as system:
        system.events.size()
    print("ready", flush=True)
    sys.stdin.readline()
    for first in range(0, batches * batch, batch):
        events = [event(name, number) for number in range(first, first + batch)]
        with ledger.system() as system:
            system.events.append(events)
    print("done", flush=True)
    ledger.close()


if __name__ == "__main__":
    main()
