"""Agreement against the worked examples of those who defined it."""

from __future__ import annotations

import pytest

from tailorbird.stats.agreement import krippendorff_alpha, over_items


def test_krippendorffs_example() -> None:
    # Krippendorff 2011, "Computing Krippendorff's alpha-reliability", section C: four observers, twelve units, gaps; nominal alpha 0.743.
    observers = ["1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3", ". 3 3 3 2 3 4 2 2 5 1 .", "1 2 3 3 2 4 4 1 2 5 1 ."]
    rows = [[None if mark == "." else mark for mark in observer.split()] for observer in observers]
    assert krippendorff_alpha(list(zip(*rows, strict=True))) == pytest.approx(0.743, abs=5e-4)


def test_what_is_undefined_is_none() -> None:
    alike = [["a", "a"], ["a", "a"]]
    assert krippendorff_alpha(alike) is None
    assert krippendorff_alpha([["a", None], [None, "b"]]) is None
    assert over_items(krippendorff_alpha, alike, 0.9, 3) is None
    assert over_items(krippendorff_alpha, [], 0.9, 3) is None
