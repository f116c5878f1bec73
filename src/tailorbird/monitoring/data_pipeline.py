"""Checks of an objective's data sources against its snapshot: missing, stale, changed, fewer or worse."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime

from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.domain.signal import Severity
from tailorbird.domain.value import Digest, Name, Value
from tailorbird.monitoring.thresholds import Measurement, Thresholds, percent

#: Labels and columns named in one sentence, and characters of each: a column given by mistake must not spill its texts.
_NAMED, _NAME_LENGTH = 3, 40
_SECONDS_A_DAY = 86_400


class SourceFacts(Value):
    """Present state of one source. ``needed`` are the columns that the objective reads; ``None`` and ``()`` mean unknown."""

    path: str
    exists: bool = True
    modified_at: datetime | None = None
    rows: int | None = None
    columns: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    digest: Digest | None = None


class DataWatchInputs(Value):
    """Inputs of one check of an objective's data.

    ``former`` are the facts of an earlier look, where kept: columns and rows of each source are compared with them. ``quarantined`` of
    ``read`` rows were set aside, and ``labels`` found, when the sources were read now; ``None`` where they were not read.
    """

    tenant: Name
    objective: Name
    at: datetime
    sources: tuple[SourceFacts, ...]
    former: tuple[SourceFacts, ...] = ()
    snapshot: SnapshotManifest | None = None
    read: int | None = None
    quarantined: int | None = None
    labels: tuple[str, ...] | None = None
    bounds: Thresholds = Thresholds()


def data_readings(inputs: DataWatchInputs) -> Iterator[Measurement]:
    """Measurements for which the facts are known, in a fixed order."""
    here = [source for source in inputs.sources if source.exists]
    yield _missing(inputs.sources)
    yield from _stale(here, inputs)
    yield from _columns(here, inputs.former)
    yield from _volume(inputs)
    yield from _quarantine(inputs)
    if inputs.snapshot is not None:
        yield from _changed(here, inputs.snapshot)
        yield from _labels(inputs.labels, inputs.snapshot)


def _missing(sources: Collection[SourceFacts]) -> Measurement:
    gone = [source.path for source in sources if not source.exists]
    text = f"Sources that are gone: {_named(gone)}." if gone else f"All {len(sources)} sources are there."
    return _count("data.missing_sources", len(gone), len(sources), text, Severity.ALARM)


def _stale(here: Collection[SourceFacts], inputs: DataWatchInputs) -> Iterator[Measurement]:
    times = [source.modified_at for source in here if source.modified_at is not None]
    if not times:
        return
    days = max(0.0, (inputs.at - max(times)).total_seconds() / _SECONDS_A_DAY)
    guard = inputs.bounds.age_days
    text = f"The newest source changed {days:.1f} days ago; the bound is {guard.warning:g} days."
    yield Measurement("data.stale_days", days, len(times), text, guard.severity(days), guard.warning)


def _columns(here: Collection[SourceFacts], former: Collection[SourceFacts]) -> Iterator[Measurement]:
    """Columns that the objective reads must be there; others may come and go, but somebody should know."""
    known = [source for source in here if source.columns]
    if known:
        lacking = [f"{column} ({source.path})" for source in known for column in source.needed if column not in source.columns]
        text = f"Columns that the objective reads and that are gone: {_named(lacking)}." if lacking else "All columns needed are there."
        yield _count("data.missing_columns", len(lacking), len(known), text, Severity.ALARM)
    before = {source.path: set(source.columns) for source in former if source.columns}
    compared = [source for source in known if source.path in before]
    if compared:
        moved = [f"{column} ({source.path})" for source in compared for column in sorted(before[source.path] ^ set(source.columns))]
        text = f"Columns that came or went: {_named(moved)}." if moved else "The sources have the columns they had."
        yield _count("data.changed_columns", len(moved), len(compared), text, Severity.WARNING)


def _volume(inputs: DataWatchInputs) -> Iterator[Measurement]:
    """The largest loss of rows: over all sources since the snapshot, or in one source since the earlier look."""
    rows = {source.path: source.rows or 0 for source in inputs.sources if not source.exists or source.rows is not None}
    pairs = [(before.path, before.rows, rows[before.path]) for before in inputs.former if before.rows and before.path in rows]
    if inputs.snapshot is not None and inputs.snapshot.read and len(rows) == len(inputs.sources):
        pairs.append(("all sources together", inputs.snapshot.read, sum(rows.values())))
    if not pairs:
        return
    where, before, now = max(pairs, key=lambda pair: (pair[1] - pair[2]) / pair[1])
    share, guard = max(0.0, (before - now) / before), inputs.bounds.volume_drop
    text = f"Rows gone at most: {percent(share)}, in {where} ({now} rows, {before} before); the bound is {percent(guard.warning)}."
    yield Measurement("data.volume_drop", share, now, text, guard.severity(share), guard.warning)


def _quarantine(inputs: DataWatchInputs) -> Iterator[Measurement]:
    if inputs.quarantined is None or not inputs.read:
        return
    snapshot = inputs.snapshot
    usual = snapshot.quarantined / snapshot.read if snapshot is not None and snapshot.read else 0.0
    share, guard = inputs.quarantined / inputs.read, inputs.bounds.quarantine.raised(usual)
    counted = f"{inputs.quarantined} of {inputs.read} rows ({percent(share)})"
    text = f"Set aside as unusable: {counted}; in the snapshot {percent(usual)}, the bound is {percent(guard.warning)}."
    yield Measurement("data.quarantine_rate", share, inputs.read, text, guard.severity(share), guard.warning)


def _changed(here: Collection[SourceFacts], snapshot: SnapshotManifest) -> Iterator[Measurement]:
    """New bytes are no fault: they are what the next iteration can learn from."""
    known = [source for source in here if source.digest is not None]
    changed = [source.path for source in known if snapshot.files.get(source.path) != source.digest]
    if known:
        text = f"Sources changed since the snapshot: {_named(changed)}." if changed else "No source has changed since the snapshot."
        yield Measurement("data.changed_sources", float(len(changed)), len(known), text)


def _labels(labels: tuple[str, ...] | None, snapshot: SnapshotManifest) -> Iterator[Measurement]:
    if labels is None or not snapshot.labels:
        return
    new, gone = sorted(set(labels) - set(snapshot.labels)), sorted(set(snapshot.labels) - set(labels))
    parts = [f"{len(new)} that the release never saw ({_named(new)})"] if new else []
    parts += [f"{len(gone)} that no row has any more ({_named(gone)})"] if gone else []
    text = f"The labels have changed: {' and '.join(parts)}." if parts else f"The {len(snapshot.labels)} labels are those of the snapshot."
    yield _count("data.changed_labels", len(new) + len(gone), len(set(labels)), text, Severity.WARNING)


def _count(name: str, value: int, n: int, text: str, severity: Severity) -> Measurement:
    """A count of things of which there should be none."""
    return Measurement(name, float(value), n, text, severity if value else Severity.INFO, 1.0)


def _named(names: Collection[str]) -> str:
    shown = [name if len(name) <= _NAME_LENGTH else name[: _NAME_LENGTH - 1] + "…" for name in list(names)[:_NAMED]]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(shown) + more
