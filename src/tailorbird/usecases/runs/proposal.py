"""From a file of data to an objective that ``plan`` accepts, once people have said what only they know.

The data are curated as ``plan`` curates them, in memory: which rows are left and how they are split decides what a target may be.
Nothing is kept.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, cast

from tailorbird import data
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.data import BuiltSnapshot
from tailorbird.domain.curation import PrivacyAction
from tailorbird.domain.dataset import Inspection, Row, SnapshotManifest, Split
from tailorbird.domain.errors import ObjectiveInvalid, TailorbirdError
from tailorbird.domain.objective import FILL_IN
from tailorbird.domain.plan import Power
from tailorbird.domain.value import Digest
from tailorbird.evaluation.json_answers import is_long_text, json_object
from tailorbird.ledger.artifacts import ArtifactStore
from tailorbird.objective import (
    GroupSizes,
    ObjectiveDraft,
    ObjectiveFile,
    ProposedKpi,
    ProvidedFacts,
    draft_objective,
    draft_yaml,
    parse_objective,
    provable_target,
    split_power,
)
from tailorbird.stats.design_effect import are_worth_less
from tailorbird.stats.intervals import score_interval, spend
from tailorbird.usecases.runs.provability import contradictions, unprovable

#: Of more rows than these the splits are estimated: curating them takes minutes, and any usual target can be proven.
MOST_CURATED = 100_000

#: Metric and highest target that is proposed, by task; with a label that bears so many of all rows, a mean over labels is asked.
_KPIS = {"classify": ("accuracy", 0.9), "classify-many": ("micro_f1", 0.7), "generate": ("token_f1", 0.5), "rank": ("ndcg@10", 0.5)}
_COMMON = 0.6


@dataclass(frozen=True)
class Proposal:
    """An objective's text. ``open`` are the keys whose texts people must still write; ``refused`` is what plan would refuse besides, and
    ``doubts`` what it would not."""

    text: str
    draft: ObjectiveDraft
    open: tuple[str, ...]
    refused: TailorbirdError | None = None
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProposalRequest:
    """What a proposal is asked for: the data, named as seen from ``folder`` (where the objective will lie), and the documents, if any."""

    file: str
    folder: Path
    tenant: str
    said: ProvidedFacts
    documents: str = ""


@dataclass(frozen=True)
class SeenData:
    """The data of a request as they look; ``unused`` are columns that its objective would not read."""

    found: Inspection
    documents: tuple[str, Inspection] | None
    unused: tuple[str, ...]
    notes: tuple[str, ...]


def look_at(asked: ProposalRequest, progress: Callable[[str], None]) -> SeenData:
    """Inspects the data, before anybody is asked about them.

    Raises DataInvalid and Unavailable as ``inspect``, InvalidInput as ``draft_objective``.
    """
    found = data.inspect_file(asked.file, asked.folder, progress)
    documents = (asked.documents, data.inspect_file(asked.documents, asked.folder, progress)) if asked.documents else None
    draft = draft_objective(found, asked.said, asked.file, asked.tenant, documents)
    unused = tuple(column.name for column in found.columns if column.name not in _used(draft)) if found.kind != "folder" else ()
    return SeenData(found, documents, unused, tuple(_notes(asked.file)))


def _used(draft: ObjectiveDraft) -> set[str]:
    """What the entry of data says: the columns that it names are among it."""
    terms = draft.source.get("terms", {})
    values = (*draft.source.values(), *(terms.values() if isinstance(terms, Mapping) else ()))
    return {str(each) for value in values for each in (value if isinstance(value, tuple) else (value,))}


def _notes(file: str) -> Iterator[str]:
    if file.startswith("hf://") and file.count(":") == 1:
        yield (
            "of a data set on the hub its split train is read; to be measured on its own test, add a source "
            f"`path: {file}:CONFIG/test` with `split: test` (its page on the hub names configurations and splits)"
        )


def propose(asked: ProposalRequest, seen: SeenData, progress: Callable[[str], None]) -> Proposal:
    """The objective for the data. Raises InvalidInput as ``draft_objective``."""
    draft = draft_objective(seen.found, asked.said, asked.file, asked.tenant, seen.documents)
    terms = draft.source["source"]
    assert isinstance(terms, Mapping)
    open_ = tuple(key for key, text in terms.items() if text.startswith(FILL_IN))
    if seen.found.rows > MOST_CURATED:
        return Proposal(draft_yaml(draft, _estimated(draft, seen.found.rows)), draft, open_)
    try:
        draft, kpi, doubts = _proven(draft, asked.folder, progress)
        return Proposal(draft_yaml(draft, kpi), draft, open_, doubts=doubts)
    except TailorbirdError as refused:
        return Proposal(draft_yaml(draft, _estimated(draft, seen.found.rows)), draft, open_, refused)


def _estimated(draft: ObjectiveDraft, rows: int) -> ProposedKpi:
    """A KPI by the number of rows alone: at least 15 of 100 are in dev, and in test."""
    metric, highest = _KPIS[_task(draft)]
    low = score_interval(0.90, max(1, 0.15 * rows), spend(draft.said.risk.confidence, 1))[0]
    target = max(1, math.floor(20 * min(low, highest) + 1e-9)) / 20
    return ProposedKpi(metric, target, f"proposed from {rows:,} rows: write why it must be reached, and the value that this asks for")


def _proven(draft: ObjectiveDraft, folder: Path, progress: Callable[[str], None]) -> tuple[ObjectiveDraft, ProposedKpi, tuple[str, ...]]:
    """The draft with the form of its answers; a KPI that a perfect candidate would prove on the data, and what speaks against it. Raises
    what plan would raise."""
    metric, highest = _KPIS[_task(draft)]
    file = _parsed(draft, ProposedKpi(metric, 0.05, ""), folder)
    store = cast(ArtifactStore, _Memory())  # a snapshot is only put, and nothing of it is read back
    built = data.build_snapshot(data.SnapshotRequest(file.objective, folder, store, {}, progress))
    manifest = built.manifest
    items = _items(manifest, built.rows)
    groups = _groups(items, many=draft.task == "classify-many")
    counts = {label: splits.train + splits.dev + splits.test for label, splits in manifest.label_counts.items()}
    common = max(counts, key=lambda label: counts[label], default="")
    if draft.task == "classify" and counts[common] > _COMMON * manifest.size:
        metric = "macro_f1"
    if _task(draft) == "generate" and (answers := _objects(built.rows)):
        # Any two objects of one kind share their keys, so that in words a wrong answer is half right. Where a value is a longer text, no
        # answer is right as a whole.
        keys = tuple(key for key in answers[0] if all(key in each for each in answers))
        draft, metric = replace(draft, json_keys=keys), "field_score" if _hold_texts(answers) else "exact_match"
    target = provable_target(metric, file, manifest, groups, highest)
    while True:
        kpi = ProposedKpi(metric, target, "", common)
        try:
            power = _check(_parsed(draft, kpi, folder), manifest, groups, items)
            sizes = {split: groups(split, None) for split in (Split.DEV, Split.TEST)}
            doubts = doubts_about(built, kpi, sizes, labelled=draft.task == "classify")
            # What the proposed target rests on: what must be seen on test, and what must be true to see it as often as the
            # plan says.
            n = sum(sizes[Split.TEST])
            sure = (
                f" (to be released four times out of five, {power.must_be:.3f} must be true)" if power and power.must_be is not None else ""
            )
            return (
                draft,
                replace(
                    kpi,
                    because=(
                        f"proposed: proven where 90 of 100 answers on the {n:,} test items are seen to be right{sure}; "
                        "write why it must be reached, and the value that this asks for"
                    ),
                ),
                doubts,
            )
        except TailorbirdError:
            if target < 0.1:
                raise
            target = round(target - 0.05, 2)


def _objects(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """What the answers say; nothing unless each is a JSON object."""
    found = [json_object(row.answer) for row in rows]
    return [each for each in found if each is not None] if None not in found else []


def _hold_texts(answers: Sequence[Mapping[str, Any]]) -> bool:
    """True where some key has long texts in more answers than not."""
    long = Counter(key for each in answers for key, value in each.items() if is_long_text(value))
    return any(2 * count > len(answers) for count in long.values())


def _items(manifest: SnapshotManifest, rows: Iterable[Row]) -> tuple[Row, ...]:
    """What dev and test would ask."""
    by_split = {split: [row for row in rows if row.split is split] for split in Split}
    return tuple(item for split in (Split.DEV, Split.TEST) for item in data.items_of_split(manifest, by_split.__getitem__, split))


def _check(file: ObjectiveFile, manifest: SnapshotManifest, groups: GroupSizes, rows: Sequence[Row]) -> Power | None:
    """What test can prove of the KPI, where it is a share. Raises ObjectiveInvalid where the data cannot prove it."""
    power = next(iter(split_power(file, manifest, groups)[1]), None)
    for split in (Split.DEV, Split.TEST):
        for finding in unprovable(file.objective, manifest, [row for row in rows if row.split is split], 1):
            raise ObjectiveInvalid(f"{split.value} cannot prove {finding.name} >= {finding.bound:g}", "bring more rows")
    return power


def _parsed(draft: ObjectiveDraft, kpi: ProposedKpi, folder: Path) -> ObjectiveFile:
    """The objective as it is once what is open is written. Raises ObjectiveInvalid."""
    return parse_objective(draft_yaml(draft, kpi).replace(FILL_IN, "to be written"), str(folder / "objective.yaml"))


def _task(draft: ObjectiveDraft) -> str:
    return "generate" if draft.task == "chat" else draft.task


def _groups(rows: Sequence[Row], *, many: bool) -> GroupSizes:
    @cache
    def sizes(split: Split) -> Callable[[str | None], tuple[int, ...]]:
        return data.group_sizes([row for row in rows if row.split is split], many=many)

    return lambda split, label: sizes(split)(label)


class _Memory:
    """Keeps nothing: what is put has its digest, and is let go."""

    def put(self, *deps: bytes | memoryview) -> Digest:
        return digest_bytes(b"".join(deps))


#: A share of rows left out that is worth a word; items of a label in test, and labels that are named.
_LEFT_OUT, _FEW, _NAMED = 0.05, 5, 5


def doubts_about(built: BuiltSnapshot, kpi: ProposedKpi, groups: Mapping[Split, Sequence[int]], *, labelled: bool) -> tuple[str, ...]:
    """What a person should know before a target on these data means anything; ``groups`` are the sizes of the groups of dev and test."""
    manifest = built.manifest
    found = [*_left_out(built), *_personal(built), *_alike(groups)]
    return (*found, *_contradicting(built), *_rare(manifest), *_too_low(manifest, kpi)) if labelled else tuple(found)


def _left_out(built: BuiltSnapshot) -> Iterator[str]:
    if len(built.quarantined) > _LEFT_OUT * built.manifest.read:
        reason, count = Counter(entry.reason for entry in built.quarantined).most_common(1)[0]
        first = min(entry.line for entry in built.quarantined if entry.reason == reason)
        rows = f"{len(built.quarantined):,} of {built.manifest.read:,} rows are left out"
        yield f"{rows}; the most frequent reason ({count:,} times, first on line {first}): {reason}"


def _personal(built: BuiltSnapshot) -> Iterator[str]:
    kept = [count for count in built.report.personal if count.rows and count.action is PrivacyAction.KEEP]
    if kept:
        listed = ", ".join(f"{count.kind.value} in {count.rows:,} rows" for count in kept)
        yield f"personal data in the texts: {listed}; they stay there unless `curation.privacy` says otherwise"


def _alike(groups: Mapping[Split, Sequence[int]]) -> Iterator[str]:
    """Of dev or test, whichever has the larger group for its rows: few groups, or a large one, prove as much as few rows."""
    told = max(groups, key=lambda split: max(groups[split], default=0) / max(1, sum(groups[split])))
    rows, largest = sum(groups[told]), max(groups[told], default=0)
    if are_worth_less(groups[told]):
        yield (
            f"many rows are nearly alike, or of one subject, and stay in one split: the {rows:,} {told.value} rows fall into "
            f"{len(groups[told]):,} group{'s' if len(groups[told]) > 1 else ''}, the largest of {largest:,} rows, and prove about as much "
            "as so few rows would"
        )


def _contradicting(built: BuiltSnapshot) -> Iterator[str]:
    if found := contradictions(built.rows):
        yield (
            f"{found.rows:,} rows have the text of another row and another label ({' and '.join(found.first)}): whatever is answered, at "
            f"most {found.right / len(built.rows):.2f} of all rows is right; decide which label each text has, or use --task classify-many"
        )


def _rare(manifest: SnapshotManifest) -> Iterator[str]:
    few = {label: counts for label, counts in sorted(manifest.label_counts.items()) if counts.test < _FEW}
    if few:
        named = [f"{label[:40]!r} ({counts.test} of {counts.train + counts.dev + counts.test})" for label, counts in few.items()]
        more = f" and {len(few) - _NAMED:,} more labels" if len(few) > _NAMED else ""
        yield f"test holds hardly any rows of {', '.join(named[:_NAMED])}{more}, and shows little of them: bring more, and such that differ"


def _too_low(manifest: SnapshotManifest, kpi: ProposedKpi) -> Iterator[str]:
    counts = {label: splits.train + splits.dev + splits.test for label, splits in manifest.label_counts.items()}
    common = max(counts, key=lambda label: counts[label], default="")
    share = counts.get(common, 0) / max(1, sum(counts.values()))
    reached = {"accuracy": share, "macro_f1": 2 * share / (1 + share) / max(1, len(counts))}.get(kpi.metric, 0.0)
    if kpi.target <= reached:
        yield (
            f"{kpi.metric} {kpi.target:.2f} is all that these rows can prove, and {reached:.2f} is reached by always answering "
            f"{common[:40]!r}: the target shows nothing; bring more rows, and rows that differ"
        )
