"""Memory and cores of a process in a container or a unit, by the files of both versions of cgroups."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch

from tailorbird.inference import open_engine
from tailorbird.system import machine
from tailorbird.system.machine import core_limit, memory_left, memory_limit, start_no_more_threads_than_cores

GIB = 2**30
SECOND = {
    "": {"memory.max": "max", "cpu.max": "max 100000"},
    "units": {"memory.max": str(4 * GIB), "memory.current": str(3 * GIB), "memory.stat": f"anon 1\ninactive_file {GIB}"},
    "units/one": {"memory.max": str(8 * GIB), "memory.current": str(3 * GIB), "memory.stat": "anon 1", "cpu.max": "150000 100000"},
}
FIRST = {
    "memory": {
        "memory.limit_in_bytes": str(4 * GIB),
        "memory.usage_in_bytes": str(3 * GIB),
        "memory.stat": f"inactive_file 7\ntotal_inactive_file {GIB}",
    },
    "cpu": {"cpu.cfs_quota_us": "150000", "cpu.cfs_period_us": "100000"},
}


def group(folder: Path, files: dict[str, dict[str, str]], own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, texts in files.items():
        (folder / place).mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / place / name).write_text(f"{text}\n")
    (folder / "own").write_text(own)
    monkeypatch.setattr(machine, "_ROOT", folder)
    monkeypatch.setattr(machine, "_OWN", folder / "own")


@pytest.mark.parametrize(
    ("files", "own"),
    [(SECOND, "0::/units/one\n"), (FIRST, "4:memory:/outside/pod\n3:cpu,cpuacct:/outside/pod\n0::/\n")],
    ids=["version 2", "version 1"],
)
def test_the_lowest_limit_from_the_group_upwards_counts(
    files: dict[str, dict[str, str]], own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group(tmp_path, files, own, monkeypatch)
    assert memory_limit() == 4 * GIB
    assert memory_left() == 2 * GIB
    assert core_limit() == 1.5


@pytest.mark.parametrize("own", ["", "0::/../other\n", "4:memory:/\n3:cpu:/\n"])
def test_nothing_limits_a_process_where_nothing_is_said(own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group(tmp_path, {"cpu": {"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"}}, own, monkeypatch)
    assert memory_limit() == memory_left() == core_limit() == math.inf
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    start_no_more_threads_than_cores()
    assert "OMP_NUM_THREADS" not in os.environ


@pytest.mark.parametrize(
    ("quota", "said", "threads"),
    [
        ("50000 100000", "", "1"),
        ("50000 100000", "3", "3"),
    ],
)
def test_a_group_with_less_than_the_machines_cores_computes_with_as_many_threads(
    quota: str, said: str, threads: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group(tmp_path, {"": {"cpu.max": quota}}, "0::/\n", monkeypatch)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    if not said:
        monkeypatch.delenv("OMP_NUM_THREADS")
    start_no_more_threads_than_cores()
    assert os.environ["OMP_NUM_THREADS"] == threads
    monkeypatch.setenv("OMP_NUM_THREADS", "")


def test_an_engine_holds_half_of_the_containers_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It took half of the machine's, and was killed for memory."""
    group(tmp_path, {"": {"memory.max": str(GIB)}}, "0::/\n", monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert open_engine("fp32", "plain").state().memory_budget == GIB // 2
    assert open_engine("fp32", "plain", memory_mb=300).state().memory_budget == 300 << 20
