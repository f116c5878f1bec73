"""Threads that OpenMP keeps: as many as a computation is allowed, gone when they are released, and back when there is something to do."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from tailorbird.inference.openmp_threads import at_most_threads

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


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="elsewhere torch brings no GNU OpenMP")
def test_a_thread_computes_with_as_many_as_it_is_allowed_and_others_with_theirs() -> None:
    before, seen = torch.get_num_threads(), dict[str, int]()
    with at_most_threads(1):
        seen["inside"] = torch.get_num_threads()
        other = threading.Thread(target=lambda: seen.update(other=torch.get_num_threads()))
        other.start()
        other.join()
        with at_most_threads(10**6):
            seen["nested"] = torch.get_num_threads()
    assert seen == {"inside": 1, "other": before, "nested": 1}
    with pytest.raises(RuntimeError), at_most_threads(1):
        torch.ones(4).view(3)
    assert torch.get_num_threads() == before
