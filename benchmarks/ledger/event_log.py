"""The event log: eight processes append at once; then the whole log is verified and consistency is proved. ``--quick`` is a tenth of it.

Appending counts from the moment when all eight were told to start until the last of them ended; every batch is one transaction that waits
for the disk. Verifying recomputes every leaf and the root from what is stored, and checks a checkpoint at each tenth of the log. A proof
counts with the transaction around it; of many, the 95th percentile is taken. The last line of stdout has the bars, as JSON.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles

from databases import empty_database

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from support.merkle_proofs import verify_consistency
from tailorbird.crypto.log_verification import check_entries
from tailorbird.domain.event import Checkpoint
from tailorbird.ledger import Ledger, open_ledger

PROCESSES = 8
BATCH = 100
APPENDS_PER_SECOND = {"sqlite": 1000, "postgresql": 2000}
FULL, QUICK = 1_000_000, 100_000
PROOFS = 200


#: A bar as every benchmark states it.
Bar = dict[str, object]


def measure(kind: str) -> None:
    """Measures a fresh database of ``kind``, and prints its bars."""
    with empty_database(kind) as url:
        print(json.dumps(bars_on(kind, url, QUICK if "--quick" in sys.argv else FULL)))


def bars_on(kind: str, url: str, size: int) -> dict[str, Bar]:
    ledger = open_ledger(url)
    ledger.migrate()
    rate = append(url, size)
    say(f"{kind}: {rate:,.0f} events a second by {PROCESSES} processes")
    problems, seconds = verify(ledger, size)
    say(f"{kind}: {size:,} events verified in {seconds:.1f} s; {len(problems)} problems {problems[:3]}")
    proof = prove(ledger, size)
    say(f"{kind}: a consistency proof took {proof * 1000:.1f} ms")
    ledger.close()
    enough, fast = APPENDS_PER_SECOND[kind], {"in": "full", "unit": "s", "events": size}
    return {
        f"events_per_second_{kind}": {"value": round(rate), "bar": enough, "unit": "events/s", "holds": rate >= enough},
        f"gaps_and_forks_{kind}": {"value": len(problems), "bar": 0, "unit": "problems", "holds": not problems},
        f"verification_{kind}": fast | {"value": round(seconds, 2), "bar": 60, "aim": 20, "holds": seconds <= 60 if size == FULL else None},
        f"consistency_proof_{kind}": fast | {"value": round(proof, 4), "bar": 0.1, "holds": proof <= 0.1 if size == FULL else None},
    }


def say(text: str) -> None:
    """Progress, for whoever watches."""
    print(text, file=sys.stderr, flush=True)


def append(url: str, size: int) -> float:
    """Events a second."""
    batches = size // BATCH // PROCESSES
    command = [sys.executable, str(Path(__file__).with_name("writer.py")), url]
    writers = [
        subprocess.Popen(
            [*command, f"worker-{n}", str(batches), str(BATCH)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        for n in range(PROCESSES)
    ]
    for writer in writers:
        _expect(writer, "ready")
    start = time.perf_counter()
    for writer in writers:
        print("go", file=writer.stdin, flush=True)
    for writer in writers:
        _expect(writer, "done")
    seconds = time.perf_counter() - start
    for writer in writers:
        writer.communicate()
    return batches * BATCH * PROCESSES / seconds


def _expect(writer: subprocess.Popen[str], word: str) -> None:
    said = writer.stdout.readline().strip() if writer.stdout else ""
    if said != word:
        raise SystemExit(f"a writer said {said!r} instead of {word!r} (exit status {writer.poll()})")


def verify(ledger: Ledger, size: int) -> tuple[tuple[str, ...], float]:
    """What is wrong with the log, and how long it took to find out. Whose events follow each other is checked beside the clock."""
    with ledger.system(write=False) as system:
        log = system.events
        tenths = [size * n // 10 for n in range(1, 11)]
        marks = [_checkpoint(n, log.root_at(n)) for n in tenths]
        start = time.perf_counter()
        problems = check_entries(log.entries(), marks, size=size, root=log.root())
        seconds = time.perf_counter() - start
        return problems + tuple(_out_of_order(ledger)), seconds


def _checkpoint(size: int, root: str) -> Checkpoint:
    return Checkpoint(origin="bench", size=size, root=root, note="", at=datetime.now(UTC))


def _out_of_order(ledger: Ledger) -> list[str]:
    """Each process numbered its events: none may be missing, twice, or out of order."""
    following: dict[str, int] = {}
    wrong = []
    with ledger.system(write=False) as system:
        for entry in system.events.entries():
            actor, number = entry.event.actor, entry.event.data["number"]
            if number != following.get(actor, 0):
                wrong.append(f"event {number} of {actor} stands where {following.get(actor, 0)} should")
            following[actor] = int(number or 0) + 1
    return wrong


def prove(ledger: Ledger, size: int) -> float:
    """Seconds, at the 95th percentile; every proof is verified."""
    choice, seconds = random.Random(0), []
    for _ in range(PROOFS):
        first = choice.randint(1, size)
        start = time.perf_counter()
        with ledger.system(write=False) as system:
            proof = system.events.consistency(first)
        seconds.append(time.perf_counter() - start)
        with ledger.system(write=False) as system:
            old, new = (bytes.fromhex(system.events.root_at(n)) for n in (first, size))
        if not verify_consistency(first, old, size, new, [bytes.fromhex(h) for h in proof]):
            raise SystemExit(f"the proof from {first} to {size} does not hold")
    return quantiles(seconds, n=20)[-1]
