"""Adapters laid out for the kernels: from any number format, scaled, rounded as torch rounds, filled up with zeros."""

from __future__ import annotations

import pytest
import torch

from tailorbird.inference.native import library

pytestmark = pytest.mark.skipif(library.why_not() is not None, reason="the native pass needs AVX2 or 64-bit ARM, and g++")


def laid(matrix: torch.Tensor | None, shape: tuple[int, int], factor: float) -> torch.Tensor:
    """In one call, between two others, which must not reach into it."""
    places = torch.full((3, shape[0] * shape[1]), 7.0, dtype=torch.bfloat16)
    layout = library.AdapterLayout()
    layout.add(torch.ones(shape), shape, 1.0, places[0].data_ptr())
    layout.add(matrix, shape, factor, places[1].data_ptr())
    layout.add(None, shape, 1.0, places[2].data_ptr())
    layout.write()
    assert bool((places[0] == 1).all())
    assert bool((places[2] == 0).all())
    return places[1]


def packed(wide: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """The same by torch and ``pack``."""
    whole = torch.zeros(shape, dtype=torch.bfloat16)
    whole[: wide.shape[0], : wide.shape[1]] = wide.bfloat16()
    found = torch.empty(whole.numel(), dtype=torch.bfloat16)
    library.pack(whole, found)
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("rows_columns", [(16, 48), (5, 32), (32, 3), (1, 1)])
@pytest.mark.parametrize("factor", [1.0, 0.3])
def test_it_is_what_torch_makes_of_it(dtype: torch.dtype, rows_columns: tuple[int, int], factor: float) -> None:
    matrix = torch.randn(rows_columns, generator=torch.Generator().manual_seed(1)).to(dtype)
    assert torch.equal(laid(matrix, (32, 48), factor), packed(matrix.float() * factor, (32, 48)))


def test_ties_small_numbers_and_what_is_no_number_are_rounded_as_torch_does() -> None:
    bits = torch.randint(-(2**31), 2**31, (64, 64), dtype=torch.int32, generator=torch.Generator().manual_seed(2))
    bits[0] = (bits[0] & ~0xFFFF) | 0x8000  # halfway between two
    bits[1] &= 0x807FFFFF  # below the smallest number that is not
    bits[2, :3] = torch.tensor([0x7F800000, 0x7F7FFFFF, 1], dtype=torch.int32)
    matrix = bits.view(torch.float32)
    found, wanted = laid(matrix, (64, 64), 1.0), packed(matrix, (64, 64))
    assert torch.equal(found.isnan(), wanted.isnan())
    assert torch.equal(found.nan_to_num(0.0).view(torch.int16), wanted.nan_to_num(0.0).view(torch.int16))


def test_any_address_and_any_order_of_its_numbers_will_do() -> None:
    bytes_ = torch.randn(16 * 16 + 1, generator=torch.Generator().manual_seed(3)).view(torch.uint8)[1:-3]
    crooked = torch.frombuffer(bytearray(b"\0" + bytes_.numpy().tobytes()), dtype=torch.float32, count=256, offset=1).reshape(16, 16)
    assert torch.equal(laid(crooked.nan_to_num(), (16, 16), 1.0), packed(crooked.nan_to_num(), (16, 16)))
    turned = torch.randn(32, 16, generator=torch.Generator().manual_seed(4)).T
    assert torch.equal(laid(turned, (16, 32), 2.0), packed(turned * 2.0, (16, 32)))
