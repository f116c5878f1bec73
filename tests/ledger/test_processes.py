"""Eight processes at once on one ledger, and processes that are killed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import support.ledger_samples as sample
from support.ledger_samples import digest
from support.ledger_writers import ROUNDS
from tailorbird.crypto.log_verification import check_entries
from tailorbird.domain.dataset import SplitCounts
from tailorbird.domain.run import StepState

TESTS = Path(__file__).parents[1]
EIGHT = [str(n) for n in range(8)]


def start(role: str, url: str, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "support.ledger_writers", role, url, name], cwd=TESTS, stdout=subprocess.PIPE, text=True
    )


def all_eight(role: str, url: str) -> list[list[str]]:
    """What each of eight processes said, all having ended well."""
    processes = [start(role, url, name) for name in EIGHT]
    said = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 8
    return [json.loads(text) for text in said]


def assert_log_holds(ledger, size: int) -> None:
    with ledger.system(write=False) as system:
        entries = list(system.events.entries())
        assert [entry.index for entry in entries] == list(range(size))
        assert check_entries(entries, [], size=system.events.size(), root=system.events.root()) == ()


def test_eight_writers_leave_no_gap_and_no_fork(ledger, url):
    all_eight("append", url)
    assert_log_holds(ledger, 8 * ROUNDS)
    with ledger.work("acme", write=False) as work:
        assert len(work.records.digests(SplitCounts)) == 8 * ROUNDS
        for name in EIGHT:
            numbers = [entry.event.data["n"] for entry in work.events.about(f"writer-{name}")]
            assert numbers == list(range(ROUNDS))


def test_eight_workers_do_each_step_once(ledger, url):
    names = [f"step-{n}" for n in range(100)]
    with ledger.work("acme") as work:
        work.runs.add(sample.run("acme"))
        for name in names:
            work.steps.enqueue("run0001", name)
    finished = all_eight("steps", url)
    assert sorted(name for own in finished for name in own) == sorted(names)
    who = {name: worker for worker, own in zip(EIGHT, finished, strict=True) for name in own}
    with ledger.work("acme", write=False) as work:
        steps = work.steps.of("run0001")
    assert [step.name for step in steps] == names
    assert {(step.state, step.attempts) for step in steps} == {(StepState.DONE, 1)}
    assert all(step.owner == who[step.name] and step.result == digest((step.owner, step.name)) for step in steps)
    assert_log_holds(ledger, 1 + 100)  # that the run was written, and each step


def test_a_kill_loses_nothing_that_was_acknowledged(ledger, url):
    processes = [start("forever", url, name) for name in EIGHT[:3]]
    acknowledged = []
    for process in processes:
        assert process.stdout is not None
        acknowledged += [int(process.stdout.readline()) for _ in range(10)]
        process.kill()
        acknowledged += [int(line) for line in process.stdout.read().splitlines()]
        process.wait()
        process.stdout.close()
    with ledger.work("acme") as work:
        size = work.events.append([sample.event("acme")]) - 1
        records = work.records.digests(SplitCounts)
    assert len(set(acknowledged)) == len(acknowledged)
    assert max(acknowledged) <= size
    assert len(records) == size
    assert_log_holds(ledger, size + 1)
