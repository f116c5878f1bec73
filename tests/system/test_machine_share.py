"""Shares of a machine: each core and each GPU has an owner, neighbours stay together, and nobody is left without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.domain.errors import InvalidInput
from tailorbird.system.machine_share import MachineShare, gpus_of, neighbouring_cores


def shares(of: int) -> list[MachineShare]:
    return [MachineShare(number, of) for number in range(1, of + 1)]


@given(st.integers(1, 40), st.integers(1, 40))
def test_all_is_dealt_out_evenly_and_nobody_is_left_without(count: int, of: int) -> None:
    things = list(range(count))
    parts = [list(share.part(things)) for share in shares(of)]
    assert {thing for part in parts for thing in part} == set(things)
    sizes = {len(part) for part in parts}
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 1
    if count >= of:
        assert [thing for part in parts for thing in part] == things


@pytest.mark.parametrize("text", ["", "2", "0/2", "3/2", "1/0", "1/2/3", "-1/2", "a/b", "1/2 "])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        MachineShare.read(text)
    assert refused.value.error_code == "share_invalid"


def test_a_share_is_read_as_it_is_written() -> None:
    assert [MachineShare.read(str(share)) for share in shares(12)] == shares(12)


def test_threads_of_a_core_and_cores_of_a_processor_stand_together(tmp_path: Path) -> None:
    for core in range(8):  # two processors of two cores of two threads, numbered as Linux does: second threads last
        topology = tmp_path / f"cpu{core}" / "topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text(f"{core % 2}\n")
        (topology / "core_id").write_text(f"{core % 4 // 2}\n")
    assert neighbouring_cores(set(range(8)), tmp_path) == [0, 4, 2, 6, 1, 5, 3, 7]
    assert neighbouring_cores({1, 3, 0}, tmp_path / "none") == [0, 1, 3]


def test_gpus_are_those_that_the_environment_names_or_all(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert gpus_of({}, tmp_path) == ["0", "1"]
    assert gpus_of({"CUDA_VISIBLE_DEVICES": "4, GPU-ab,7"}, tmp_path) == ["4", "GPU-ab", "7"]
    assert gpus_of({"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == []


def test_memory_is_divided_among_those_that_share_a_gpu() -> None:
    def taken(of: int, gpus: list[str]) -> list[tuple[str | None, float]]:
        found = []
        for share in shares(of):
            environment: dict[str, str] = {}
            part = share.take_gpus(environment, gpus)
            assert part.machine == 1 / of, "whoever sees a GPU may compute on the processor all the same"
            found.append((environment.get("CUDA_VISIBLE_DEVICES"), part.gpu if gpus else part.machine))
        return found

    assert taken(2, ["4", "7"]) == [("4", 1), ("7", 1)]
    assert taken(2, ["0", "1", "2", "3"]) == [("0,1", 1), ("2,3", 1)]
    assert taken(4, ["0", "1"]) == [("0", 0.5), ("0", 0.5), ("1", 0.5), ("1", 0.5)]
    assert taken(3, ["0", "1"]) == [("0", 0.5), ("0", 0.5), ("1", 1)]
    assert taken(2, []) == [(None, 0.5), (None, 0.5)]


_TAKE = """
import json, os, sys, threading
from tailorbird.system.machine_share import MachineShare
earlier = threading.Thread(target=threading.Event().wait, daemon=True)
earlier.start()
part = MachineShare.read(sys.argv[1]).take()
print(json.dumps([part.machine, sorted(os.sched_getaffinity(0)), os.environ.get("OMP_NUM_THREADS")]))
assert os.sched_getaffinity(earlier.native_id) == os.sched_getaffinity(0), "threads that were there before are kept to them, too"
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system keeps no process to a core")
def test_a_process_keeps_to_its_cores_and_starts_no_more_threads() -> None:
    def taken(share: str, **environment: str) -> tuple[float, set[int], str | None]:
        kept = {name: text for name, text in os.environ.items() if name != "OMP_NUM_THREADS"} | {"CUDA_VISIBLE_DEVICES": ""}
        kept["PYTHONPATH"] = os.pathsep.join(sys.path)
        done = subprocess.run([sys.executable, "-c", _TAKE, share], env=kept | environment, capture_output=True, check=True)
        part, cores, threads = json.loads(done.stdout)
        return part, set(cores), threads

    all_of_them = os.sched_getaffinity(0)
    (one, first, threads), (_, second, _) = taken("1/2"), taken("2/2")
    assert one == 0.5
    assert first | second == all_of_them
    assert not first & second or len(all_of_them) == 1
    assert threads is not None
    assert 1 <= int(threads) <= len(first)
    assert taken("1/2", OMP_NUM_THREADS="1")[2] == "1"
    assert taken("1/2", OMP_NUM_THREADS="9999")[2] == threads
    assert taken("1/1", OMP_NUM_THREADS="7") == (1, all_of_them, "7")
