"""How many threads of the native pass compute, by how long they lacked a core, and that the bits are those of one."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from support.native_forms import PORTABLE
from support.oracle import MakeModel
from tailorbird.inference.forward.batch import Part, build_batch
from tailorbird.inference.forward.model_folder import read_weights
from tailorbird.inference.forward.weights import place
from tailorbird.inference.native import library
from tailorbird.inference.native.forward import NativeForward

pytestmark = pytest.mark.skipif(library.why_not() is not None, reason="the native pass needs AVX2 or 64-bit ARM, and g++")

#: Runs through a crew, by what is lacked in a run by so many members; each takes as long as so many usual ones.
Story = Callable[..., list[int]]
QUIET, CROWDED = 0.01, 0.45

HARNESS = """
extern "C" void* crew(int64_t size) { return new Crew(size); }
extern "C" int64_t crew_next(void* crew) { return static_cast<Crew*>(crew)->next(); }
extern "C" void crew_judge(void* crew, double waited, int64_t usual) { static_cast<Crew*>(crew)->judge(waited, usual); }
extern "C" void crew_gone(void* crew) { delete static_cast<Crew*>(crew); }
"""


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("crew")
    (folder / "crew.cpp").write_text(f'#include "{library._SOURCE}"\n{HARNESS}')
    subprocess.run(["g++", *PORTABLE.command, "-O0", "-o", folder / "crew.so", folder / "crew.cpp"], check=True)
    loaded = ctypes.CDLL(str(folder / "crew.so"))
    loaded.crew.restype, loaded.crew.argtypes = ctypes.c_void_p, [ctypes.c_int64]
    loaded.crew_next.restype, loaded.crew_next.argtypes = ctypes.c_int64, [ctypes.c_void_p]
    loaded.crew_judge.restype, loaded.crew_judge.argtypes = None, [ctypes.c_void_p, ctypes.c_double, ctypes.c_int64]
    loaded.crew_gone.restype, loaded.crew_gone.argtypes = None, [ctypes.c_void_p]

    def told(size: int, waited: Callable[[int, int], float], runs: int, usual: int = 1) -> list[int]:
        crew, members = loaded.crew(size), list[int]()
        for run in range(runs):
            members.append(loaded.crew_next(crew))
            loaded.crew_judge(crew, waited(run, members[-1]), usual)
        loaded.crew_gone(crew)
        return members

    return told


def test_all_compute_on_a_quiet_machine(story: Story) -> None:
    """Also where now and then a run is late: one in ten, and three behind one another; and where more than half are, beside a gateway."""
    assert set(story(4, lambda *_: QUIET, 500)) == {4}
    assert set(story(2, lambda run, _: CROWDED if run % 10 == 0 or run % 100 < 3 else QUIET, 2000)) == {2}
    assert set(story(2, lambda run, _: CROWDED if run % 5 < 3 else QUIET, 2000)) == {2}


def test_one_less_computes_beside_a_busy_process_and_it_is_seldom_tried_again(story: Story) -> None:
    members = story(2, lambda _, active: CROWDED if active == 2 else 0.0, 20_000)
    assert members[:24] == [2] * 24
    assert members[24:88] == [1] * 64
    assert members.count(2) < 24 + 20_000 // 1024 * 8 + 5 * 8, "each trial costs a few runs"
    assert 2 in members[-1100:], "and yet it is tried"


def test_after_long_runs_it_is_tried_sooner(story: Story) -> None:
    """Prompts that take as long as sixteen answers are not read by one thread for as many of them."""
    members = story(2, lambda run, active: CROWDED if run < 24 and active == 2 else 0.0, 60, usual=16)
    assert members[:24] == [2] * 24
    assert members[24:28] == [1] * 4
    assert members[28:] == [2] * 32


def test_all_compute_again_once_the_others_are_gone(story: Story) -> None:
    members = story(4, lambda run, active: CROWDED if run < 4000 and active > 1 else QUIET, 12_000)
    assert 1 in members[:4000]
    assert set(members[-4000:]) == {4}


def test_as_many_compute_as_have_cores(story: Story) -> None:
    """Two of eight cores are somebody else's."""
    members = story(8, lambda _, active: CROWDED if active > 6 else QUIET, 4000)
    assert set(members) == {8, 7, 6}
    assert members[-2000:].count(6) > 1800


def computed(forward: NativeForward, count: int, steps: int) -> list[torch.Tensor]:
    memory, rows = forward.memory(16), list[torch.Tensor]()
    for step in range(steps):
        first = [Part(None, [(5 + row + step) % 256, 7, 9], 0, [row * 2, row * 2 + 1], 0) for row in range(count)]
        rows.append(forward.logits(forward.hidden(build_batch(first), memory)))
    return rows


def busy(cores: int) -> Sequence[subprocess.Popen[bytes]]:
    return [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]


@pytest.mark.usefixtures("native_form")
def test_the_bits_are_the_same_however_many_compute(make_model: MakeModel) -> None:
    """Beside processes that take the cores, and give them back, while it is computed."""
    folder = Path(make_model("llama", hidden_size=64, num_hidden_layers=2, head_dim=32, intermediate_size=128, vocab_size=256))
    model = read_weights(folder, place("bf16"))
    expected = computed(NativeForward(model, 1), 4, 400)
    others = busy(3)
    try:
        found = computed(NativeForward(model, 3), 4, 200)
    finally:
        for each in others:
            each.kill()
            each.wait()
    found += computed(NativeForward(model, 3), 4, 400)[200:]
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))
