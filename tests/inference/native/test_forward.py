"""Room for packed weights: pieces side by side in their order, counted to the end of the last page."""

from __future__ import annotations

import pytest
import torch

from tailorbird.inference.native.forward import NativeAdapter, WeightBuffer
from tailorbird.inference.native.library import SHORT_RUN, quantised_bytes

PAGE = 2 * 2**20


@pytest.mark.parametrize("count", [256, 3 * 2**20])
def test_pieces_lie_side_by_side_and_are_our_own(count: int) -> None:
    shelf = WeightBuffer(count)
    pieces = [shelf.take(count // 4) for _ in range(4)]
    for number, piece in enumerate(pieces):
        piece.fill_(number)
    starts = [piece.data_ptr() for piece in pieces]
    assert [start - starts[0] for start in starts] == [place * count // 2 for place in range(4)]
    assert [piece.unique().tolist() for piece in pieces] == [[0.0], [1.0], [2.0], [3.0]]
    with pytest.raises(AssertionError):
        shelf.take(32)


def test_large_pages_are_counted_whole() -> None:
    assert WeightBuffer(320).nbytes == 640
    assert WeightBuffer(PAGE // 2).nbytes == PAGE
    assert WeightBuffer(PAGE // 2 + 32).nbytes == 2 * PAGE


def test_a_piece_outlives_its_shelf() -> None:
    piece = WeightBuffer(PAGE).take(PAGE)
    piece.fill_(7)
    junk = [torch.zeros(PAGE, dtype=torch.bfloat16) for _ in range(3)]
    assert junk
    assert piece.unique().tolist() == [7.0]


def test_an_adapter_has_room_for_what_it_was_made_for_and_no_more() -> None:
    shapes = [((32, 48), None), ((32, 16), None)]
    down, up = quantised_bytes(16, 32), [quantised_bytes(size, 16, SHORT_RUN) for size in (48, 16)]
    adapter = NativeAdapter(2, 2 * down + sum(up))
    adapter.put(5, 16, shapes)
    delta = adapter.deltas[5]
    assert (delta.inputs, delta.rank, delta.parts, list(delta.outputs[:2])) == (32, 16, 2, [48, 16])
    assert delta.up - delta.down == 2 * down
    assert adapter.deltas[4].down is None
    with pytest.raises(AssertionError):
        adapter.put(6, 16, shapes)
