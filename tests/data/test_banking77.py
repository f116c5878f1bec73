"""The data room on real messages: Banking77 with its official test set."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.data import build, make_objective
from tailorbird.data import BuiltSnapshot
from tailorbird.data.duplicates.near_duplicates import near_duplicates
from tailorbird.domain.dataset import Split
from tailorbird.text.words import normalise


@pytest.fixture(scope="module")
def banking77(test_data: Path) -> BuiltSnapshot:
    """The snapshot of both official files."""
    sources = {"path": "banking77/train.csv", "label": "category"}, {"path": "banking77/test.csv", "label": "category", "split": "test"}
    return build(make_objective(*sources), test_data)


def test_no_near_duplicates_straddle_a_split(banking77: BuiltSnapshot) -> None:
    rows = banking77.rows
    near = near_duplicates([normalise(row.text) for row in rows])
    assert len(near) > 50
    assert all(rows[one].split is rows[other].split for one, other in near)
    assert len({row.group for row in rows}) == len({(row.group, row.split) for row in rows})


def test_the_seven_messages_in_both_official_files_stay_in_test_only(banking77: BuiltSnapshot, test_data: Path) -> None:
    manifest = banking77.manifest
    assert (manifest.read, manifest.duplicates, manifest.counts.test, len(manifest.label_counts)) == (13_083, 5, 3_079, 77)
    assert manifest.read == len(banking77.rows) + manifest.duplicates + manifest.quarantined
    texts = {split: {normalise(row.text) for row in banking77.rows if row.split is split} for split in Split}
    assert not texts[Split.TEST] & (texts[Split.TRAIN] | texts[Split.DEV])
    assert {(entry.file, entry.code) for entry in banking77.quarantined} == {("banking77/train.csv", "contaminates_test")}
    source = (test_data / "banking77" / "train.csv").read_text(encoding="utf-8").splitlines()
    leaked = [entry for entry in banking77.quarantined if any(text in normalise(source[entry.line - 1]) for text in texts[Split.TEST])]
    assert len(leaked) >= 7
