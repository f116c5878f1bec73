"""Data report of a snapshot: one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from tailorbird.crypto.canonical_json import short
from tailorbird.domain.curation import CurationReport
from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.domain.value import Digest, Value

#: Bars of the picture of lengths; classes drawn at most.
BINS, CLASSES = 24, 40


class SourceLine(Value):
    """Rows of one file on the same terms; ``people`` counts the pseudonyms in that file."""

    file: str
    origin: str
    license: str
    consent: str
    collected: str
    rows: int
    people: int


class LabelExample(Value):
    """A row whose label is likely wrong, with its text."""

    text: str
    given: str
    suggested: str
    score: float


class DataFacts(Value):
    """What the report says, for machines. ``reasons`` count what was set aside; ``examples`` are texts of rows, where they were asked
    for."""

    digest: Digest
    manifest: SnapshotManifest
    curation: CurationReport | None
    followed_by: Digest | None
    made_at: datetime
    sources: tuple[SourceLine, ...]
    reasons: dict[str, int]
    transforms: dict[str, int]
    examples: tuple[LabelExample, ...]
    examples_skipped: str


class DataReport(Value):
    """All that stands in the report: ``facts``, and the ``lengths`` of all texts, in characters."""

    facts: DataFacts
    lengths: tuple[int, ...]


class LengthBar(Value):
    """A bar: its label, how many rows, and its share of the longest bar."""

    label: str
    count: int
    share: float


class FlowBar(Value):
    """A step from raw to kept: rows after it, their share of the raw rows, and what went, by reason."""

    name: str
    rows: int
    share: float
    gone: int
    reasons: str


def data_report(report: DataReport) -> str:
    """The page."""
    found, manifest = report.facts, report.facts.manifest
    return (
        _environment()
        .get_template("data_report.html")
        .render(
            found=found,
            manifest=manifest,
            curation=found.curation,
            flow=_flow(found),
            lengths=_lengths(report.lengths),
            classes=_classes(manifest),
            classes_left=max(0, len(manifest.label_counts) - CLASSES),
            people=sum(line.people for line in {line.file: line for line in found.sources}.values()),
        )
    )


def _flow(found: DataFacts) -> tuple[FlowBar, ...]:
    """The steps of the curation; of snapshots without a report, the counts that every manifest has."""
    manifest, read = found.manifest, max(1, found.manifest.read)
    if found.curation and found.curation.flow:
        steps = [(step.name, step.before, step.after, step.reasons) for step in found.curation.flow]
        first = FlowBar(name="read", rows=steps[0][1], share=steps[0][1] / read, gone=0, reasons="")
        return (first, *(_step(name, before, after, reasons, read) for name, before, after, reasons in steps))
    without_copies = manifest.read - manifest.duplicates
    return (
        FlowBar(name="read", rows=manifest.read, share=1.0, gone=0, reasons=""),
        _step("exact duplicates", manifest.read, without_copies, {"duplicate": manifest.duplicates}, read),
        _step("set aside", without_copies, manifest.size, found.reasons, read),
    )


def _step(name: str, before: int, after: int, reasons: dict[str, int], read: int) -> FlowBar:
    told = ", ".join(f"{count:,} {code.replace('_', ' ')}" for code, count in reasons.items() if count)
    return FlowBar(name=name.replace("_", " "), rows=after, share=min(1.0, after / read), gone=before - after, reasons=told)


def _lengths(lengths: Sequence[int]) -> tuple[LengthBar, ...]:
    """Bars of equal width up to the 99th percentile; the last one holds the tail."""
    if not lengths:
        return ()
    ordered = sorted(lengths)
    top = max(BINS, ordered[int(0.99 * (len(ordered) - 1))])
    width = -(-top // BINS)
    counts = [0] * BINS
    for length in ordered:
        counts[min(BINS - 1, length // width)] += 1
    return _bars([(_range(at, width), count) for at, count in enumerate(counts)])


def _range(at: int, width: int) -> str:
    return f"{at * width:,}+" if at == BINS - 1 else f"{at * width:,} to {(at + 1) * width - 1:,}"


def _classes(manifest: SnapshotManifest) -> tuple[LengthBar, ...]:
    counts = {label: split.train + split.dev + split.test for label, split in manifest.label_counts.items()}
    return _bars(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:CLASSES])


def _bars(counted: Sequence[tuple[str, int]]) -> tuple[LengthBar, ...]:
    most = max((count for _, count in counted), default=1) or 1
    return tuple(LengthBar(label=label, count=count, share=count / most) for label, count in counted)


@cache
def _environment() -> Environment:
    made = Environment(loader=PackageLoader("tailorbird.reporting"), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    made.filters["short"] = short
    made.filters["count"] = lambda number: f"{number:,}"
    made.filters["percent"] = lambda share: f"{100 * share:.1f} %"
    return made
