"""Sets of labels as one text: one spelling a set, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.domain.errors import InvalidInput
from tailorbird.text.label_rules import join, split

LABELS = st.text(min_size=1, max_size=8).map(str.strip).filter(lambda label: label and "|" not in label and label.casefold() != "none")


def test_the_spelling() -> None:
    assert join(["refund", "billing", "refund"]) == "billing | refund"
    assert join([]) == "none"
    assert split("refund|billing") == ("billing", "refund")
    assert split("none") == split("") == split(" | ") == ()


@given(st.lists(LABELS, max_size=5))
def test_labels_come_back_sorted_and_once(labels: list[str]) -> None:
    assert split(join(labels)) == tuple(sorted(set(labels)))


@given(st.text(st.sampled_from("ab| \tnoe"), max_size=20) | st.text())
def test_any_text_has_labels_and_one_spelling(text: str) -> None:
    spelt = join(split(text))
    assert split(spelt) == split(text)
    assert join(split(spelt)) == spelt


@pytest.mark.parametrize("label", ["", " a", "a|b", "None"])
def test_a_label_that_reads_as_something_else_is_refused(label: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        join(["fine", label])
    assert caught.value.error_code == "invalid_input"
    assert caught.value.hint
