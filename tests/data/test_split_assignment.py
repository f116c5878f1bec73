"""Splits in which every label stands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.data import build, make_objective
from tailorbird.domain.dataset import Split
from tailorbird.domain.errors import DataInvalid
from tailorbird.text.label_rules import join, split

SETS = ("billing", "billing | refund", "refund", "none")


def rows(count: int, targets: tuple[str, ...] = SETS) -> list[dict[str, Any]]:
    """Messages that are no near-duplicates of one another, with the sets in turn."""
    words = [f"{chr(97 + n % 26)}{n * 7919 % 9973}" for n in range(count)]
    return [{"text": f"{w} {w[::-1]} about {w}{w} and {w}", "label": list(split(targets[n % len(targets)]))} for n, w in enumerate(words)]


@given(st.lists(st.sets(st.sampled_from("abcde"), max_size=3), min_size=5, max_size=40))
def test_each_label_with_three_rows_reaches_every_split_that_it_can(tmp_path_factory: pytest.TempPathFactory, sets: list[set[str]]) -> None:
    folder = tmp_path_factory.mktemp("sets")
    targets = tuple(join(labels) for labels in [*sets, *[{label} for label in "abcde"] * 3])
    (folder / "d.json").write_text(json.dumps(rows(len(targets), targets)))
    built = build(make_objective({"path": "d.json"}, labels="many"), folder)
    assert set(built.manifest.label_sets) == {row.target for row in built.rows if row.split is Split.TRAIN}
    for label, counts in built.manifest.label_counts.items():
        assert min(counts.train, counts.dev, counts.test) >= 1
        assert counts.train == sum(label in split(row.target) for row in built.rows if row.split is Split.TRAIN)


def test_a_label_on_one_row_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.json").write_text(json.dumps([*rows(60), {"text": "x y z", "label": ["refund", "rare"]}]))
    with pytest.raises(DataInvalid, match="'rare' has a single row"):
        build(make_objective({"path": "d.json"}, labels="many"), tmp_path)
