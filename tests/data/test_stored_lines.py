"""Lines of rows as they are stored, of which some are others by the time they are."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.data.stored_lines import StoredLines

LINES = st.lists(st.binary(max_size=8).map(lambda line: line.replace(b"\n", b"")), min_size=1, max_size=12)


@given(LINES, st.data())
def test_lines_that_became_others_are_stored_as_if_made_at_once(lines: list[bytes], drawn: st.DataObject) -> None:
    order = np.array(drawn.draw(st.permutations(range(len(lines)))), np.intp)
    others = drawn.draw(st.dictionaries(st.integers(0, len(lines) - 1), st.binary(max_size=8).map(lambda line: line.replace(b"\n", b""))))
    made = StoredLines(lines, order)
    assert made.lines(range(len(lines))) == lines
    pieces, lengths = made.changed([*others], [*others.values()])
    now = [others.get(place, line) for place, line in enumerate(lines)]
    assert b"".join(pieces) == b"".join(now[place] + b"\n" for place in order.tolist())
    assert lengths.tolist() == [len(now[place]) for place in order.tolist()]
