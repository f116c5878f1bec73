"""Machines that a test runs on: one with a simulated GPU, and one with a real one, by the same test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest
import torch

from support.simulated_gpu import simulated_gpu

#: For ``pytest.mark.parametrize("machine", MACHINES)``: the second runs by ``make gpu`` alone.
MACHINES = ["simulated", pytest.param("real", marks=pytest.mark.gpu)]


@contextmanager
def gpu_of(machine: str) -> Iterator[None]:
    """A GPU within the block: the simulated one, or this machine's, which must have one."""
    if machine == "simulated":
        with simulated_gpu():
            yield
        return
    assert torch.cuda.is_available(), "make gpu is for a machine with a CUDA device"
    yield


@contextmanager
def without_gpu() -> Iterator[None]:
    """A machine that computes on its processor, whatever it has."""
    with mock.patch.object(torch.cuda, "is_available", return_value=False), mock.patch.object(torch.cuda, "device_count", return_value=0):
        yield
