"""Names, directions and margins of metrics."""

from __future__ import annotations

import pytest

from tailorbird.evaluation.metrics import base_of, label_of, margin_in, spec_of_metric


@pytest.mark.parametrize(
    ("metric", "base", "label"),
    [
        ("accuracy", "accuracy", None),
        ("recall[lost card]", "recall", "lost card"),
        ("recall[a[1]]", "recall", "a[1]"),
        ("recall[a", "recall", None),
    ],
)
def test_a_metric_is_its_base_and_its_label(metric: str, base: str, label: str | None) -> None:
    assert (base_of(metric), label_of(metric)) == (base, label)


def test_a_margin_holds_for_metrics_in_its_unit_alone() -> None:
    assert margin_in(0.05, "macro_f1", "accuracy") == 0.05
    assert margin_in(0.05, "log_loss", "accuracy") == spec_of_metric("log_loss").margin


def test_the_margin_of_a_label_counts_before_that_of_all_labels() -> None:
    margins = {"recall": 0.03, "recall[a]": 0.1}
    assert [margin_in(margins, metric, "accuracy") for metric in ("recall[a]", "recall[b]", "accuracy")] == [0.1, 0.03, 0.02]
