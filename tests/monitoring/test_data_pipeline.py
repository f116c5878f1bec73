"""A look at the data of an objective: what is gone, old, changed, less or worse than in the snapshot."""

from __future__ import annotations

from datetime import timedelta

import pytest

from support.monitoring import NOW, by_name, manifest
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.dataset import SourceShape
from tailorbird.domain.feedback import Severity
from tailorbird.monitoring import DataWatchInputs, SourceFacts, check_data

HERE = SourceFacts(
    path="train.csv",
    modified_at=NOW - timedelta(days=2),
    shape=SourceShape(rows=1000, columns=("label", "text")),
    digest=digest_bytes(b"file"),
)


def look(*sources: SourceFacts, **more: object):
    given = {"tenant": "acme", "objective": "routing", "at": NOW, "sources": sources or (HERE,), "snapshot": manifest()} | more
    return by_name(check_data(DataWatchInputs.model_validate(given)))


def changed(**fields: object) -> SourceFacts:
    return HERE.model_copy(update=fields)


def shape(rows: int = 1000, *columns: str) -> SourceShape:
    return SourceShape(rows=rows, columns=columns or ("label", "text"))


def test_data_as_they_were_frozen_trouble_nobody():
    found = look(quarantined=20, labels=("top_up", "lost_card", "refund"))
    assert set(found) == {
        "data.missing_sources",
        "data.stale_days",
        "data.missing_columns",
        "data.changed_columns",
        "data.volume_drop",
        "data.quarantine_rate",
        "data.changed_sources",
        "data.changed_labels",
    }
    assert {signal.severity for signal in found.values()} == {Severity.INFO}
    assert {signal.release for signal in found.values()} == {None}


def test_a_source_that_is_gone_is_an_alarm_and_its_rows_are_missed():
    found = look(changed(exists=False, shape=None, digest=None, modified_at=None))
    assert found["data.missing_sources"].severity is Severity.ALARM
    assert "train.csv" in found["data.missing_sources"].text
    assert found["data.volume_drop"].severity is Severity.ALARM
    assert found["data.volume_drop"].value == 1
    assert "data.stale_days" not in found


@pytest.mark.parametrize(("days", "severity"), [(10, Severity.INFO), (90, Severity.WARNING), (400, Severity.ALARM), (-5, Severity.INFO)])
def test_the_newest_source_tells_the_age(days: int, severity: Severity):
    old, new = changed(path="old.csv", modified_at=NOW - timedelta(days=5000)), changed(modified_at=NOW - timedelta(days=days))
    found = look(old, new)["data.stale_days"]
    assert found.severity is severity
    assert found.value == max(0, days)


def test_a_column_that_the_objective_reads_is_gone():
    found = look(changed(shape=None), failure=("column_missing", "train.csv: there is no column 'label'"))
    assert found["data.missing_columns"].severity is Severity.ALARM
    assert "'label'" in found["data.missing_columns"].text
    assert "data.unreadable" not in found


def test_data_that_cannot_be_read_are_an_alarm():
    found = look(changed(shape=None), failure=("file_broken", "train.csv: it cannot be read"))
    assert found["data.unreadable"].severity is Severity.ALARM
    assert "data.missing_columns" not in found


def test_columns_that_come_and_go_are_told_by_name():
    found = look(changed(shape=shape(1000, "label", "team")))
    assert found["data.changed_columns"].severity is Severity.WARNING
    assert found["data.changed_columns"].value == 2
    assert "team (train.csv), text (train.csv)" in found["data.changed_columns"].text


@pytest.mark.parametrize(
    ("rows", "severity"), [(1500, Severity.INFO), (801, Severity.INFO), (800, Severity.WARNING), (500, Severity.ALARM)]
)
def test_rows_that_are_gone_since_the_snapshot(rows: int, severity: Severity):
    assert look(changed(shape=shape(rows)))["data.volume_drop"].severity is severity


def test_one_small_source_that_dries_up_is_found_beside_a_large_one():
    was = manifest(read=1050).model_copy(update={"sources": {"small.csv": shape(50), "train.csv": shape(1000)}})
    found = look(changed(path="small.csv", shape=shape(0)), HERE, snapshot=was)["data.volume_drop"]
    assert found.severity is Severity.ALARM
    assert "small.csv" in found.text


def test_unknown_numbers_of_rows_are_not_guessed():
    assert "data.volume_drop" not in look(changed(shape=None))


@pytest.mark.parametrize(("quarantined", "severity"), [(69, Severity.INFO), (70, Severity.WARNING), (220, Severity.ALARM)])
def test_rows_set_aside_beyond_the_share_of_the_snapshot(quarantined: int, severity: Severity):
    """The snapshot set aside 2 %, so that a warning comes at 7 %."""
    found = look(quarantined=quarantined)["data.quarantine_rate"]
    assert found.severity is severity
    assert found.bound == pytest.approx(0.07)


def test_new_bytes_are_said_and_are_no_fault():
    found = look(changed(digest=digest_bytes(b"newer")))["data.changed_sources"]
    assert (found.value, found.severity) == (1, Severity.INFO)


def test_labels_that_came_or_went_are_told():
    found = look(labels=("lost_card", "top_up", "crypto"))["data.changed_labels"]
    assert found.severity is Severity.WARNING
    assert found.value == 2
    assert "1 that the release never saw (crypto) and 1 that no row has any more (refund)" in found.text


def test_a_text_column_given_as_label_does_not_spill_into_the_sentence():
    secrets = tuple(f"{n} my card number is {n:016d} and I live in a street with a long name" for n in range(50))
    text = look(labels=secrets)["data.changed_labels"].text
    assert "and 47 more" in text
    assert "street" not in text
