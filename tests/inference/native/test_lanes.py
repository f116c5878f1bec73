"""Sixteen numbers at a time, in each form and width of registers: what the kernels are written in does what torch does."""

from __future__ import annotations

import ctypes
import math
import subprocess
from typing import Any

import pytest
import torch

from support.native_forms import FORMS
from tailorbird.inference.native import library

pytestmark = pytest.mark.skipif(library.why_not() is not None, reason="the native pass needs AVX2 or 64-bit ARM, and g++")

HARNESS = """
#include "lanes.h"
extern "C" void narrowed(const float* x, bf16* y) { put16(y, load(x)); }
extern "C" void widened(const bf16* x, float* y) { store(y, wide16(x)); }
extern "C" void powers(const float* x, float* y) { store(y, exp16(load(x))); }
extern "C" void seen(const float* x, float* y, int64_t first, int64_t last) { store(y, only(load(x), first, last)); }
extern "C" void told(const float* x, float* y) { store(y, where_finite(load(x), splat(1))); }
extern "C" float total(const float* x) { return sum_of(load(x)); }
extern "C" float most(const float* x) { return largest_of(load(x)); }
extern "C" void larger_one(const float* x, const float* y, float* z) { store(z, larger(load(x), load(y))); }
extern "C" void fused(const float* x, const float* y, float* z) {
    store(z, times_minus(load(x), load(y), times_plus(load(x), load(x), load(y))));
}
extern "C" float halved(uint16_t x) { return wide_half(x); }
extern "C" float scattered(const bf16* key, const bf16* query, int64_t count) {
    std::vector<Input> room;
    return scattered_dot(key, as_inputs(query, count, room), count);
}
"""
ODD = [
    0.0,
    -0.0,
    math.inf,
    -math.inf,
    math.nan,
    1e-30,
    3.4e38,
    -3.4e38,
    1.0,
    1.00390625,
    1.01171875,
    -1.00390625,
    65280.5,
    0.1,
    -7.3,
    256.5,
]


@pytest.fixture(scope="module", params=sorted(FORMS))
def lanes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("lanes")
    (folder / "harness.cpp").write_text(HARNESS)
    command = ["g++", *FORMS[request.param].command, "-O1", "-I", library._SOURCE.parent]
    subprocess.run([*command, "-o", folder / "lanes.so", folder / "harness.cpp"], check=True)
    loaded = ctypes.CDLL(str(folder / "lanes.so"))
    loaded.total.restype = loaded.most.restype = loaded.scattered.restype = loaded.halved.restype = ctypes.c_float
    return loaded


def at(tensor: torch.Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def done(function: Any, *given: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    out = torch.empty(16, dtype=dtype)
    function(*(at(each) for each in given), at(out))
    return out


def test_numbers_are_rounded_as_torch_rounds_them(lanes: Any) -> None:
    for numbers in (torch.tensor(ODD), *torch.randn(50, 16, generator=torch.manual_seed(1))):
        found = done(lanes.narrowed, numbers, dtype=torch.bfloat16)
        assert torch.equal(found.nan_to_num(7), numbers.bfloat16().nan_to_num(7))
        assert found.isnan().tolist() == numbers.isnan().tolist()
        assert torch.equal(done(lanes.widened, found).nan_to_num(7), found.float().nan_to_num(7))


def test_powers_of_e(lanes: Any) -> None:
    for numbers in torch.linspace(-80, 88, 16 * 200).view(200, 16):
        assert torch.allclose(done(lanes.powers, numbers), numbers.double().exp().float(), rtol=4e-7)
    found = done(lanes.powers, torch.tensor([-1e30, -math.inf, 0.0, 200.0, math.inf, 88.5] + [1.0] * 10))
    assert found[:2].max() < 1e-37
    assert found[2] == 1
    assert found[3:6].min() > 2e38


def test_lanes_that_are_not_seen(lanes: Any) -> None:
    numbers = torch.arange(16.0)
    for first, last in ((0, 16), (0, 3), (5, 40), (5, 9), (0, 1)):
        out = torch.empty(16)
        lanes.seen(at(numbers), at(out), ctypes.c_int64(first), ctypes.c_int64(last))
        assert out.tolist() == [place if first <= place < last else -math.inf for place in range(16)]


def test_sums_largest_numbers_and_what_is_finite(lanes: Any) -> None:
    numbers = torch.randn(16, generator=torch.manual_seed(2))
    assert lanes.total(at(numbers)) == pytest.approx(numbers.double().sum().item(), abs=1e-5)
    assert lanes.most(at(numbers)) == numbers.max().item()
    assert torch.equal(done(lanes.larger_one, numbers, -numbers), numbers.abs())
    assert done(lanes.told, torch.tensor(ODD)).tolist() == [0.0 if each != each or each == -math.inf else 1.0 for each in ODD]
    assert torch.allclose(
        done(lanes.fused, numbers, numbers.flip(0)), numbers * numbers.flip(0) - (numbers * numbers + numbers.flip(0)), atol=1e-6
    )


def test_one_key_among_sixteen(lanes: Any) -> None:
    """Its pairs lie between those of its neighbours."""
    keys, query = (torch.randn(*shape, generator=torch.manual_seed(3)).bfloat16() for shape in ((16, 64), (64,)))
    block = keys.view(16, 32, 2).transpose(0, 1).contiguous()
    for token in range(16):
        found = lanes.scattered(ctypes.c_void_p(block.data_ptr() + token * 4), at(query), ctypes.c_int64(64))
        assert found == pytest.approx((keys[token].double() @ query.double()).item(), rel=1e-5, abs=1e-5)


def test_numbers_of_sixteen_bits_as_ieee_has_them(lanes: Any) -> None:
    every = torch.arange(0, 65536, 7).to(torch.uint16)
    found = torch.tensor([lanes.halved(ctypes.c_uint16(int(each))) for each in every])
    expected = every.view(torch.float16).float()
    assert torch.equal(found.nan_to_num(7), expected.nan_to_num(7))
    assert torch.equal(found.nan_to_num(7).signbit(), expected.nan_to_num(7).signbit())
