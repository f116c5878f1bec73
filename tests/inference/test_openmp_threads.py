"""Threads that OpenMP keeps: gone when they are released, and back when there is something to compute."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tailorbird.inference.openmp_threads import release_threads

#: Threads of a process of its own: alone, after a computation by two, after a release, and after the next computation.
SCRIPT = """
import json, os, torch
from tailorbird.inference.openmp_threads import release_threads
torch.set_num_threads(2)
def count():
    return len(os.listdir("/proc/self/task"))
found = [count()]
for step in (lambda: torch.ones(2**21).add_(1), release_threads, lambda: torch.ones(2**21).add_(1)):
    step()
    found.append(count())
print(json.dumps(found))
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads as Linux tells them")
def test_threads_go_and_come_back() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    alone, computed, released, again = json.loads(done.stdout)
    assert computed == again == released + 1
    assert released == alone


def test_releasing_where_nothing_was_computed_is_nothing() -> None:
    release_threads()
    release_threads()
