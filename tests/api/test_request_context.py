"""Dividing the engine's time: shares add up, and waiting together is cheaper."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from tailorbird.api.http import EngineShare


class Watch:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def test_who_waits_alone_has_it_all_and_two_have_half() -> None:
    watch = Watch()
    engine = EngineShare(watch)
    first = engine.enter()
    watch.at = 1.0
    second = engine.enter()
    watch.at = 3.0
    assert engine.leave(first) == 2.0
    watch.at = 4.0
    assert engine.leave(second) == 2.0


@given(st.lists(st.tuples(st.floats(0, 10), st.booleans()), max_size=40))
def test_shares_add_up_to_the_time_in_which_anybody_waited(moves: list[tuple[float, bool]]) -> None:
    watch = Watch()
    engine, waiting, shares, busy = EngineShare(watch), [], 0.0, 0.0
    for pause, comes in [*moves, *[(1.0, False)] * len(moves)]:
        watch.at += pause
        busy += pause if waiting else 0.0
        if comes:
            waiting.append(engine.enter())
        elif waiting:
            share = engine.leave(waiting.pop(0))
            assert share >= 0
            shares += share
    assert math.isclose(shares, busy, abs_tol=1e-6)
