"""Matrices of adapters as the native pass lays them out, and read back from there."""

from __future__ import annotations

import torch

from tailorbird.inference.native import library


def laid(matrix: torch.Tensor | None, shape: tuple[int, int], run: int, factor: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Levels (OI) and scales (OR) of a matrix that is laid out in one call, between two others, which must not reach into it."""
    places = torch.full((3, library.quantised_bytes(*shape, run)), 7, dtype=torch.uint8)
    layout = library.AdapterLayout()
    for place, (given, by) in zip(places, [(torch.ones(shape), 1.0), (matrix, factor), (None, 1.0)], strict=True):
        layout.add(given, shape, run, by, place.data_ptr())
    layout.write()
    before, scales = unpacked(places[0], shape, run)
    assert torch.allclose(before * scales.repeat_interleave(run, 1), torch.ones(shape), atol=0.005)
    assert bool((places[2] == 0).all())
    return unpacked(places[1], shape, run)


def unpacked(place: torch.Tensor, shape: tuple[int, int], run: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Block by block of 16 outputs, run by run: pairs of inputs; then the scales."""
    blocks, runs = shape[0] // 16, shape[1] // run
    every, weights = place.view(blocks, runs, -1), run * 16
    held = every[..., :weights].reshape(blocks, runs, -1, 16, 2).view(torch.int8)
    levels = held.permute(0, 3, 1, 2, 4).reshape(shape)
    kind = torch.float32 if run == library.RUN else torch.bfloat16
    scales = every[..., weights:].reshape(blocks, runs, -1).contiguous().view(kind).reshape(blocks, runs, -1, 16)
    return levels, scales.permute(0, 3, 1, 2).reshape(shape[0], -1).float()
