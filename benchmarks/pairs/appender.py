"""One side of the ledger's pairs: ``appender.py URL`` makes the database, and for each line of stdin, a number of batches, appends them.

It prints ``ready``, and the seconds that each line took. A batch is one transaction, which waits for the disk.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "ledger"))

from writer import event

from tailorbird.ledger import open_ledger

BATCH = 100


def main() -> None:
    ledger = open_ledger(sys.argv[1])
    ledger.migrate()
    print("ready", flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        for _ in range(int(line)):
            events = [event("worker", number) for number in range(BATCH)]
            with ledger.system() as system:
                system.events.append(events)
        print(time.perf_counter() - started, flush=True)
    ledger.close()


if __name__ == "__main__":
    main()
