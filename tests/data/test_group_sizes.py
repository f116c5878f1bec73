"""How rows of a split share groups."""

from __future__ import annotations

import pytest

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.data import group_sizes
from tailorbird.domain.dataset import Provenance, Row, Split
from tailorbird.text.label_rules import join

ROWS = [("a", "one"), ("a", "one"), ("a", "two"), ("b", "two")]


def row(number: int, group: str, target: str) -> Row:
    where = Provenance(
        file="rows.csv", file_digest=digest_bytes(b"file"), line=number + 2, origin="x", license="x", collected="x", consent="x"
    )
    return Row(id=digest_bytes(str(number).encode()), text="t", target=target, group=group, split=Split.TEST, provenance=where)


@pytest.mark.parametrize(("label", "sizes"), [(None, [1, 3]), ("one", [2]), ("two", [1, 1]), ("three", [])])
def test_sizes_are_those_of_the_rows_that_bear_the_label(label: str | None, sizes: list[int]) -> None:
    rows = [row(number, group, target) for number, (group, target) in enumerate(ROWS)]
    assert sorted(group_sizes(rows, many=False)(label)) == sizes
    several = [each.model_copy(update={"target": join([each.target, "three"])}) for each in rows]
    assert sorted(group_sizes(several, many=True)("three")) == [1, 3]
