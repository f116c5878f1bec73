"""What a run costs: FLOPs by hand, memory that grows, a machine that answers."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from support.training_samples import settings
from tailorbird.training import devices, open_trainer
from tailorbird.training.batches import TokenizedRow, pack
from tailorbird.training.loop import Flops, MemoryMeter
from tailorbird.training.methods import METHODS, Learner
from tailorbird.training.network import read_model

CPU = torch.device("cpu")
#: hidden 32, MLP 48, 4 heads and 2 key heads of 8, two layers.
BACKBONE = 2 * (32 * 32 + 2 * 32 * 16 + 32 * 32 + 3 * 32 * 48)
RANK_INPUTS_AND_OUTPUTS = 2 * ((32 + 32) + 2 * (32 + 16) + (32 + 32) + 3 * (32 + 48))


@pytest.mark.parametrize(
    ("method", "per_token", "per_loss_token"),
    [("full", 6 * BACKBONE, 6 * 32 * 49152), ("lora", 4 * BACKBONE + 6 * 4 * RANK_INPUTS_AND_OUTPUTS, 4 * 32 * 49152)],
)
def test_flops_follow_the_formula(method: str, per_token: int, per_loss_token: int, tiny_base: Path, rows: list[TokenizedRow]) -> None:
    learner = Learner(read_model(tiny_base, torch.float32, CPU), settings(method), tiny_base)
    METHODS[method].prepare(learner)
    packed = pack(rows, torch.float32, CPU)
    assert packed.tokens < packed.useful
    expected = packed.tokens * per_token + packed.loss_tokens * per_loss_token + packed.tree.pairs * 12 * 32 * 2
    assert Flops(learner.model).of(packed) == expected


def test_the_meter_sees_memory_that_is_held() -> None:
    meter = MemoryMeter(CPU)
    held = torch.ones(64, 1024, 1024)
    meter.sample()
    assert 0.2 < meter.peak < 0.4
    del held
    meter.sample()
    assert meter.peak > 0.2


def test_what_earlier_work_gives_back_late_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([3.0, 1.5, 1.8, 2.5, 2.0])
    monkeypatch.setattr(MemoryMeter, "now", lambda _: next(readings))
    meter = MemoryMeter(CPU)
    for _ in range(2):
        meter.begin()
        meter.sample()
    assert (meter.start, meter.peak) == (1.5, 0.5)


def test_the_machine_is_measured_in_a_moment() -> None:
    started = time.monotonic()
    machine = open_trainer().measure_machine()
    assert time.monotonic() - started < 10
    assert machine.cores == len(os.sched_getaffinity(0))
    assert machine.memory_gb > 0.5
    assert machine.fp32_gflops > 0.5
    assert machine.bf16_gflops > 0.1


def test_memory_is_that_of_the_smallest_gpu_where_one_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = [SimpleNamespace(total_memory=80 << 30), SimpleNamespace(total_memory=24 << 30)]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(cards))
    monkeypatch.setattr(torch.cuda, "get_device_properties", cards.__getitem__)
    assert devices.memory_bytes(torch.device("cuda")) == 24 << 30
    assert devices.memory_bytes(torch.device("cpu")) > 1 << 28
