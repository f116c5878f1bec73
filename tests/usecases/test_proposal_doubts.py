"""What weakens a proposed target."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tailorbird.domain.dataset import Row, Split
from tailorbird.objective import ProposedKpi
from tailorbird.usecases.runs.proposal import doubts_about


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


def test_texts_with_several_labels_are_told() -> None:
    place = [SimpleNamespace(file="rows.csv", line=line) for line in range(4)]
    said = (("a b", "x"), ("A  b", "y"), ("a b", "z"), ("c", "x"))
    rows = [Row.model_construct(text=text, target=label, provenance=at) for (text, label), at in zip(said, place, strict=True)]
    (found,) = doubts_about(built(*rows), ProposedKpi("accuracy", 0.9, ""), groups(*(1,) * 30), labelled=True)
    assert "3 rows have the text of another row and another label (rows.csv:0 and rows.csv:1)" in found
    assert "at most 0.50 of all rows is right" in found
