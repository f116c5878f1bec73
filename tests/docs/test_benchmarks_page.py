"""The page of benchmarks says what the committed results say."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "benchmarks")]

from results_page import PAGE, is_upper_bound, page  # noqa: E402


def test_the_page_is_the_one_that_the_results_give() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


def test_a_missed_upper_bound_is_known_by_its_verdict() -> None:
    assert is_upper_bound({"value": 2, "bar": 1, "holds": False})
    assert is_upper_bound({"value": 1, "bar": 2, "holds": True})
    assert not is_upper_bound({"value": 2, "bar": 1, "holds": True})
