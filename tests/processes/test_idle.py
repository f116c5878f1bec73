"""A gateway and an engine that nobody asks cost next to nothing."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from support.processes import gateway_process, wait_ready
from support.serving import House

#: Share of a core that each may take, and seconds over which it is measured. A slow machine shall not fail here.
MOST, SECONDS = 0.05, 12.0


def seconds_of(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_idle_processes_take_next_to_nothing(house: House, tmp_path: Path) -> None:
    house.point("routing", house.release())
    with gateway_process(tmp_path) as running:
        wait_ready(running.url, running.process)
        pids = [running.process.pid, *running.engine_pids()]
        time.sleep(6)  # what is due at first is done
        before, started = [seconds_of(pid) for pid in pids], time.monotonic()
        time.sleep(SECONDS)
        lasted = time.monotonic() - started
        shares = [(seconds_of(pid) - was) / lasted for pid, was in zip(pids, before, strict=True)]
    assert len(shares) == 2
    assert max(shares) < MOST, shares
