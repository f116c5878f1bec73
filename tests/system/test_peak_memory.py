"""The highest resident set since a moment, with several that count at once."""

from __future__ import annotations

import pytest

from tailorbird.system import machine
from tailorbird.system.machine import PeakMemory, resident_gib


def touched(megabytes: int) -> bytearray:
    return bytearray(b"x") * (megabytes << 20)


def test_what_was_taken_and_given_back_is_remembered() -> None:
    mark = PeakMemory()
    before = mark.gib
    held = touched(64)
    del held
    assert mark.gib >= before + 0.05
    assert mark.start <= mark.gib


def test_one_that_begins_later_takes_nothing_from_an_earlier_one() -> None:
    outer = PeakMemory()
    held = touched(96)
    del held
    reached = outer.gib
    inner = PeakMemory()
    assert outer.gib >= reached
    assert inner.gib <= reached + 0.001


def test_where_the_system_keeps_no_mark_what_is_looked_at_counts(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    for name in ("_STATUS", "_CLEAR", "_STATM"):
        monkeypatch.setattr(machine, name, tmp_path / "none" / name)
    assert PeakMemory().gib >= resident_gib() > 0.001
