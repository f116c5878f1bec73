"""Matrices of adapters as the native pass lays them out, and read back from there."""

from __future__ import annotations

import torch

from tailorbird.inference.native import library


def scaled(run: int, bits: int) -> int:
    """Inputs with one scale."""
    return min(run, 32) if bits == 4 else run


def laid(
    matrix: torch.Tensor | None, shape: tuple[int, int], run: int, factor: float, bits: library.AdapterBits = 8
) -> tuple[torch.Tensor, torch.Tensor]:
    """Levels (OI) and scales (OR) of a matrix that is laid out in one call, between two others, which must not reach into it. In 4 bits
    each is one of a pair, whose other one is nothing."""
    places = torch.full((3, library.quantised_bytes(*shape, run, bits)), 7, dtype=torch.uint8)
    layout = library.AdapterLayout(bits)
    partner = (16, shape[0]) if run == library.RUN else (shape[1], library.RUN)
    beside = torch.zeros(library.quantised_bytes(*partner), dtype=torch.uint8)
    for place, (given, by) in zip(places, [(torch.ones(shape), 1.0), (matrix, factor), (None, 1.0)], strict=True):
        if bits == 4 and run == library.SHORT_RUN:
            layout.add(None, partner, library.RUN, 1.0, beside.data_ptr())
        layout.add(given, shape, run, by, place.data_ptr())
        if bits == 4 and run == library.RUN:
            layout.add(None, partner, library.SHORT_RUN, 1.0, beside.data_ptr())
    layout.write()
    before, scales = unpacked(places[0], shape, run, bits)
    assert torch.allclose(before * scales.repeat_interleave(scaled(run, bits), 1), torch.ones(shape), atol=0.005)
    assert bool((places[2] == 0).all())
    return unpacked(places[1], shape, run, bits)


def laid_change(down_RI: torch.Tensor, up_OR: torch.Tensor, factor: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The two matrices of a change as they are held in 4 bits, the second times ``factor``."""
    rank, inputs, outputs = (
        -(-size // step) * step for size, step in zip((*down_RI.shape, len(up_OR)), (16, library.RUN, 16), strict=True)
    )
    shapes, runs = ((rank, inputs), (outputs, rank)), (library.RUN, library.SHORT_RUN)
    places = [torch.zeros(library.quantised_bytes(*shape, run, 4), dtype=torch.uint8) for shape, run in zip(shapes, runs, strict=True)]
    layout = library.AdapterLayout(4)
    for matrix, by, shape, run, place in zip((down_RI, up_OR), (1.0, factor), shapes, runs, places, strict=True):
        layout.add(matrix, shape, run, by, place.data_ptr())
    layout.write()
    held = []
    for matrix, shape, run, place in zip((down_RI, up_OR), shapes, runs, places, strict=True):
        levels, scales = unpacked(place, shape, run, 4)
        held.append((levels * scales.repeat_interleave(scaled(run, 4), 1))[: len(matrix), : matrix.shape[1]].contiguous())
    return held[0], held[1]


def unpacked(place: torch.Tensor, shape: tuple[int, int], run: int, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Block by block of 16 outputs, run by run: pairs of inputs, or fours whose second pair lies in the upper halves; then the scales."""
    blocks, runs = shape[0] // 16, shape[1] // run
    every, weights = place.view(blocks, runs, -1), run * 16 * bits // 8
    held = every[..., :weights].reshape(blocks, runs, -1, 1, 16, 2).view(torch.int8)
    if bits == 4:
        held = torch.cat([held << 4 >> 4, held >> 4], 3)
    levels = held.permute(0, 4, 1, 2, 3, 5).reshape(shape)
    kind = torch.float32 if (run, bits) == (library.RUN, 8) else torch.bfloat16
    scales = every[..., weights:].reshape(blocks, runs, -1).contiguous().view(kind).reshape(blocks, runs, -1, 16)
    return levels, scales.permute(0, 3, 1, 2).reshape(shape[0], -1).float()
