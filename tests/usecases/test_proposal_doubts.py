"""What weakens a proposed target."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from tailorbird.domain.dataset import Row, Split
from tailorbird.objective import ProposedKpi
from tailorbird.usecases.runs.objective_proposal import doubts_about, levels_of


def groups(*test: int, dev: tuple[int, ...] = (1,) * 30) -> dict[Split, tuple[int, ...]]:
    return {Split.DEV: dev, Split.TEST: test}


def built(*rows: Row, **labels: tuple[int, int, int]) -> Any:
    counts = {label: SimpleNamespace(train=train, dev=dev, test=test) for label, (train, dev, test) in labels.items()}
    manifest = SimpleNamespace(label_counts=counts, read=300)
    return SimpleNamespace(manifest=manifest, rows=rows, quarantined=(), report=SimpleNamespace(personal=()))


@pytest.mark.parametrize(
    ("metric", "target", "told"),
    [("accuracy", 0.6, True), ("accuracy", 0.9, False), ("macro_f1", 0.4, True), ("macro_f1", 0.5, False)],
)
def test_a_target_that_the_commonest_label_would_reach_is_told(metric: str, target: float, told: bool) -> None:
    found = doubts_about(built(a=(160, 20, 20), b=(80, 10, 10)), ProposedKpi(metric, target, ""), groups(*(1,) * 30), labelled=True)
    assert bool(found) is told
    assert all("always answering 'a'" in doubt for doubt in found)


def test_groups_of_like_rows_and_labels_that_test_hardly_holds_are_told() -> None:
    found = doubts_about(built(a=(90, 20, 30), b=(90, 30, 0)), ProposedKpi("accuracy", 0.9, ""), groups(10, 10, 10), labelled=True)
    assert "30 test rows fall into 3 groups" in found[0]
    assert "hardly any rows of 'b' (0 of 120)" in found[1]
    assert len(doubts_about(built(), ProposedKpi("token_f1", 0.5, ""), groups(*(1,) * 30), labelled=False)) == 0


def test_a_large_group_of_dev_is_told_too() -> None:
    """Log lines that differ in a number: 604 of 900 rows were one group of dev, and no word was said of it."""
    (found,) = doubts_about(built(), ProposedKpi("token_f1", 0.5, ""), groups(*(1,) * 80, dev=(600, 1, 1, 1)), labelled=False)
    assert "the 603 dev rows fall into 4 groups, the largest of 600 rows" in found


def test_texts_with_several_labels_are_told() -> None:
    place = [SimpleNamespace(file="rows.csv", line=line) for line in range(4)]
    said = (("a b", "x"), ("A  b", "y"), ("a b", "z"), ("c", "x"))
    rows = [Row.model_construct(text=text, target=label, provenance=at) for (text, label), at in zip(said, place, strict=True)]
    (found,) = doubts_about(built(*rows), ProposedKpi("accuracy", 0.9, ""), groups(*(1,) * 30), labelled=True)
    assert "3 rows have the text of another row and another label (rows.csv:0 and rows.csv:1)" in found
    assert "at most 0.50 of all rows is right" in found


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        (("1", "10", "2", "3", "4", "5", "6", "7", "8", "9"), tuple(map(str, range(1, 11)))),
        (("P1", "P2", "P3"), ("P1", "P2", "P3")),
        (("high", "low", "medium"), ("low", "medium", "high")),
        (("Very_High", "low", "none"), ("none", "low", "Very_High")),
        (("1", "2"), ()),
        (("P1", "Q2", "P3"), ()),
        (("1", "2", "9"), ()),
        (("1", "01", "2"), ()),
        (("low", "Low", "high"), ()),
        (("high", "login", "low"), ()),
        ((), ()),
    ],
)
def test_labels_that_look_like_levels_are_told_in_order(labels: tuple[str, ...], order: tuple[str, ...]) -> None:
    assert levels_of(labels) == order
    counts = dict.fromkeys(labels, (60, 20, 20))
    found = doubts_about(built(**counts), ProposedKpi("accuracy", 0.9, ""), groups(*(1,) * 30), labelled=True)
    assert any("label_order" in doubt for doubt in found) is bool(order)


def test_levels_are_written_as_yaml_reads_them_back() -> None:
    """``01`` without quotes is a number there, which no row bears."""
    counts = dict.fromkeys(("01", "02", "03"), (60, 20, 20))
    (found,) = doubts_about(built(**counts), ProposedKpi("accuracy", 0.9, ""), groups(*(1,) * 30), labelled=True)
    written = found.partition("`label_order: ")[2].partition("`")[0]
    assert yaml.safe_load(written) == ["01", "02", "03"]
