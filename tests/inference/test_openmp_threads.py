"""Threads that OpenMP keeps: gone when they are released, and back when there is something to compute."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tailorbird.inference.openmp_threads import release_threads

TASKS = Path("/proc/self/task")


def computed() -> torch.Tensor:
    return torch.ones(2**21).add_(1)


@pytest.mark.skipif(
    not TASKS.is_dir() or torch.get_num_threads() < 2, reason="counts the threads of a process of several, as Linux tells them"
)
def test_threads_go_and_come_back() -> None:
    release_threads()
    alone = len(list(TASKS.iterdir()))
    assert computed().sum() == 2**22
    pooled = len(list(TASKS.iterdir()))
    release_threads()
    assert len(list(TASKS.iterdir())) == alone < pooled
    assert computed().sum() == 2**22
    assert len(list(TASKS.iterdir())) == pooled


def test_releasing_where_nothing_was_computed_is_nothing() -> None:
    release_threads()
    release_threads()
