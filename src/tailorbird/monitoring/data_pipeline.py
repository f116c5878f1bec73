"""Checks of an objective's data sources against its snapshot: missing, stale, changed, fewer or worse."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime

from tailorbird.domain.dataset import SnapshotManifest, SourceShape
from tailorbird.domain.feedback import Severity, SignalName
from tailorbird.domain.value import Digest, Name, Value
from tailorbird.monitoring.thresholds import Measurement, Thresholds, percent

#: Labels and columns named in one sentence, and characters of each: a column given by mistake must not spill its texts.
_NAMED, _NAME_LENGTH = 3, 40
_SECONDS_A_DAY = 86_400


class SourceFacts(Value):
    """Present state of one source; ``shape`` and ``digest`` are None where it was not read."""

    path: str
    exists: bool = True
    modified_at: datetime | None = None
    shape: SourceShape | None = None
    digest: Digest | None = None


class DataWatchInputs(Value):
    """Inputs of one check of an objective's data.

    ``quarantined`` rows were set aside, and ``labels`` found, when the sources were read now; ``None`` where they were not read.
    ``failure`` is the code and the sentence of the error with which reading ended.
    """

    tenant: Name
    objective: Name
    at: datetime
    sources: tuple[SourceFacts, ...]
    snapshot: SnapshotManifest
    quarantined: int | None = None
    labels: tuple[str, ...] | None = None
    failure: tuple[str, str] | None = None
    bounds: Thresholds = Thresholds()


def data_readings(inputs: DataWatchInputs) -> Iterator[Measurement]:
    """Measurements for which the facts are known, in a fixed order."""
    here, before = [source for source in inputs.sources if source.exists], inputs.snapshot
    yield _missing(inputs.sources)
    yield from _stale(here, inputs)
    yield from _readable(inputs)
    yield from _columns(here, before)
    yield from _volume(inputs)
    yield from _quarantine(inputs)
    yield from _changed(here, before)
    yield from _labels(inputs.labels, before)


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


def _readable(inputs: DataWatchInputs) -> Iterator[Measurement]:
    """Why the sources could not be read as the objective says: a column that it names is gone, or something else."""
    lacking, n = "All columns that the objective reads are there.", len(inputs.sources)
    code, message = inputs.failure or ("", "")
    if code == "column_missing":
        lacking = f"A column that the objective reads is gone: {message}."
    elif code:
        yield _count("data.unreadable", 1, n, f"The data cannot be read any more: {message}.", Severity.ALARM)
    if code == "column_missing" or all(source.shape for source in inputs.sources):
        yield _count("data.missing_columns", int(bool(code)), n, lacking, Severity.ALARM)


def _columns(here: Collection[SourceFacts], snapshot: SnapshotManifest) -> Iterator[Measurement]:
    """Columns that the objective does not read may come and go, but somebody should know."""
    pairs = [(source.path, source.shape, snapshot.sources.get(source.path)) for source in here]
    compared = [(path, {*now.columns}, {*was.columns}) for path, now, was in pairs if now and was and now.columns and was.columns]
    if compared:
        moved = [f"{column} ({path})" for path, now, was in compared for column in sorted(now ^ was)]
        text = f"Columns that came or went: {_named(moved)}." if moved else "The sources have the columns they had."
        yield _count("data.changed_columns", len(moved), len(compared), text, Severity.WARNING)


def _volume(inputs: DataWatchInputs) -> Iterator[Measurement]:
    """The largest loss of rows since the snapshot: in one source, or over all."""
    before = inputs.snapshot.sources
    rows = {source.path: source.shape.rows if source.shape else 0 for source in inputs.sources if source.shape or not source.exists}
    pairs = [(path, before[path].rows, now) for path, now in rows.items() if path in before and before[path].rows]
    if inputs.snapshot.read and len(rows) == len(inputs.sources):
        pairs.append(("all sources together", inputs.snapshot.read, sum(rows.values())))
    if not pairs:
        return
    where, was, now = max(pairs, key=lambda pair: (pair[1] - pair[2]) / pair[1])
    share, guard = max(0.0, (was - now) / was), inputs.bounds.volume_drop
    text = f"Rows gone at most: {percent(share)}, in {where} ({now} rows, {was} before); the bound is {percent(guard.warning)}."
    yield Measurement("data.volume_drop", share, now, text, guard.severity(share), guard.warning)


def _quarantine(inputs: DataWatchInputs) -> Iterator[Measurement]:
    read = sum(source.shape.rows for source in inputs.sources if source.shape)
    if inputs.quarantined is None or not read:
        return
    snapshot = inputs.snapshot
    usual = snapshot.quarantined / snapshot.read if snapshot.read else 0.0
    share, guard = inputs.quarantined / read, inputs.bounds.quarantine.raised(usual)
    counted = f"{inputs.quarantined} of {read} rows ({percent(share)})"
    text = f"Set aside as unusable: {counted}; in the snapshot {percent(usual)}, the bound is {percent(guard.warning)}."
    yield Measurement("data.quarantine_rate", share, read, text, guard.severity(share), guard.warning)


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


def _count(name: SignalName, value: int, n: int, text: str, severity: Severity) -> Measurement:
    """A count of things of which there should be none."""
    return Measurement(name, float(value), n, text, severity if value else Severity.INFO, 1.0)


def _named(names: Collection[str]) -> str:
    shown = [name if len(name) <= _NAME_LENGTH else name[: _NAME_LENGTH - 1] + "…" for name in list(names)[:_NAMED]]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(shown) + more
