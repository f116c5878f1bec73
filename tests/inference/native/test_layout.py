"""Adapters laid out for the kernels: from any number format, scaled, in int8 with their scales, filled up with zeros."""

from __future__ import annotations

import pytest
import torch

from support.adapter_layout import laid
from tailorbird.inference.native import library

pytestmark = pytest.mark.skipif(library.why_not() is not None, reason="the native pass needs AVX2 or 64-bit ARM, and g++")
RUNS = [library.RUN, library.SHORT_RUN]


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("rows_columns", [(16, 64), (5, 32), (32, 3), (1, 1)])
@pytest.mark.parametrize("factor", [1.0, 0.3])
def test_each_weight_is_the_nearest_level_of_its_run(dtype: torch.dtype, rows_columns: tuple[int, int], factor: float, run: int) -> None:
    matrix = torch.randn(rows_columns, generator=torch.Generator().manual_seed(1)).to(dtype)
    whole = torch.zeros(32, 64)
    whole[: rows_columns[0], : rows_columns[1]] = matrix.float() * factor
    levels, scales = laid(matrix, (32, 64), run, factor)
    most = whole.view(32, -1, run).abs().amax(-1)
    assert torch.allclose(scales, most / 127, rtol=1e-6 if run == library.RUN else 2**-7, atol=0)
    assert bool((scales * 127 * (1 + 1e-6) >= most).all()), "a scale that was rounded down would cut the largest weight"
    wide = scales.repeat_interleave(run, 1)
    assert bool(((levels * wide - whole).abs() <= wide * 0.501).all())
    assert bool((levels[whole == 0] == 0).all())


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_no_number_is_told_by_the_scale_of_its_run(broken: float, run: int) -> None:
    for at in (0, 17, 63):
        matrix = torch.ones(16, 64)
        matrix[3, at] = broken
        _, scales = laid(matrix, (16, 64), run, 1.0)
        found = ~scales.isfinite()
        assert found.nonzero().tolist() == [[3, at // run]]


@pytest.mark.parametrize("run", RUNS)
def test_the_smallest_and_the_largest_numbers_have_levels(run: int) -> None:
    for size in (1e-36, 3e38):
        levels, scales = laid(torch.full((16, 64), size), (16, 64), run, 1.0)
        wide = scales.double().repeat_interleave(run, 1)
        assert torch.allclose(levels.double() * wide, torch.full((16, 64), size).double(), rtol=0.01, atol=0)


def test_any_address_and_any_order_of_its_numbers_will_do() -> None:
    bytes_ = torch.randn(16 * 16 + 1, generator=torch.Generator().manual_seed(3)).view(torch.uint8)[1:-3]
    crooked = torch.frombuffer(bytearray(b"\0" + bytes_.numpy().tobytes()), dtype=torch.float32, count=256, offset=1).reshape(16, 16)
    straight = crooked.nan_to_num().clone()
    for found, expected in zip(laid(crooked.nan_to_num(), (16, 16), 16, 1.0), laid(straight, (16, 16), 16, 1.0), strict=True):
        assert torch.equal(found, expected)
    turned = torch.randn(32, 16, generator=torch.Generator().manual_seed(4)).T
    for found, expected in zip(laid(turned, (16, 32), 16, 2.0), laid(turned.contiguous(), (16, 32), 16, 2.0), strict=True):
        assert torch.equal(found, expected)
