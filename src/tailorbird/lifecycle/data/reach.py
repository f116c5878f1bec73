"""What rows reached: the runs that saw them, what was made from them, what answers with it.

In: snapshots, and the rows that must go from each. Out: runs, candidates, releases, aliases; artifacts that hold the rows' text. Must not
know: why rows go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tailorbird.domain.dataset import Row, Split
from tailorbird.domain.erasure import Reach
from tailorbird.domain.evidence import Evidence
from tailorbird.domain.ladder import Candidate, Making
from tailorbird.domain.release import Release
from tailorbird.domain.run import Run, Step
from tailorbird.domain.value import Digest
from tailorbird.foundations.canonical import digest_of
from tailorbird.lifecycle.steps import story
from tailorbird.ports.ledger import UnitOfWork

#: Feedback that is looked through at most, newest first.
_MOST_FEEDBACK = 10_000
_EVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Traced:
    """``learned`` are candidates that hold something of the rows: weights or an adapter that learned them, a prompt or an index that
    shows them. ``shown`` are those of ``learned`` that hold their very text."""

    runs: list[Run] = field(default_factory=list)
    candidates: dict[Digest, Candidate] = field(default_factory=dict)
    learned: set[Digest] = field(default_factory=set)
    shown: set[Digest] = field(default_factory=set)
    releases: list[Release] = field(default_factory=list)
    evidence: set[Digest] = field(default_factory=set)


def trace(work: UnitOfWork, rows: Mapping[Digest, Sequence[Row]]) -> Traced:
    """Follows ``rows``, by snapshot, through the record."""
    traced, ids = Traced(), {row.id for some in rows.values() for row in some}
    for run in work.runs.all():
        steps = [step for step in work.steps.of(run.id) if step.result]
        snapshot = next((step.result for step in steps if step.name == story.SNAPSHOT), None)
        if snapshot is not None and snapshot in rows:
            traced.runs.append(run)
            in_train = any(row.split is Split.TRAIN for row in rows[snapshot])
            for digest, candidate in _candidates(work, steps):
                _classify(traced, digest, candidate, ids, in_train=in_train)
    traced.releases = [release for release in work.releases.all() if release.content.snapshot in rows]
    traced.evidence = {work.records.get(Evidence, digest).items for digest in _evidence_of(work, traced)}
    return traced


def reach_of(work: UnitOfWork, rows: Mapping[Digest, Sequence[Row]], traced: Traced, now: datetime) -> Reach:
    """The same as names and counts, for the certificate. Requests are those that the reached releases ever answered."""
    releases = {release.digest for release in traced.releases}
    learned = {digest: traced.candidates[digest] for digest in traced.learned}
    made = [candidate.adapter or candidate.weights for candidate in learned.values()]
    indexes = [candidate.retrieval.index for candidate in learned.values() if candidate.retrieval]
    return Reach(
        snapshots=tuple(sorted(rows)),
        runs=tuple(sorted(run.id for run in traced.runs)),
        candidates=tuple(sorted(traced.candidates)),
        adapters=tuple(sorted({digest for digest in made if digest})),
        prompts=tuple(sorted(digest for digest in traced.shown if traced.candidates[digest].prompt.demonstrations)),
        indexes=tuple(sorted(set(indexes))),
        releases=tuple(sorted(releases)),
        aliases=tuple(alias.path for alias in work.aliases.all() if releases & {target.release for target in alias.targets}),
        feedback=sum(work.requests.get(said.request).release in releases for said in work.feedback.latest(_MOST_FEEDBACK)),
        requests=sum(seen.requests for seen in work.requests.traffic(_EVER, now) if seen.release in releases),
    )


def _candidates(work: UnitOfWork, steps: Sequence[Step]) -> Iterator[tuple[Digest, Candidate]]:
    for step in steps:
        if step.name.startswith("make ") and step.result:
            digest = work.records.get(Making, step.result).candidate
            if digest is not None:
                yield digest, work.records.get(Candidate, digest)


def _classify(traced: Traced, digest: Digest, candidate: Candidate, ids: set[Digest], *, in_train: bool) -> None:
    """Only rows of train are learned from or shown; those of dev and test are measured on, and leave counts alone."""
    traced.candidates[digest] = candidate
    shown = any(demonstration.row_id in ids for demonstration in candidate.prompt.demonstrations)
    indexed = candidate.retrieval is not None and candidate.retrieval.what == "examples" and in_train
    if shown or indexed:
        traced.shown.add(digest)
    if shown or indexed or (in_train and (candidate.adapter or candidate.weights)):
        traced.learned.add(digest)


def _evidence_of(work: UnitOfWork, traced: Traced) -> Iterator[Digest]:
    snapshots = {digest_of(candidate) for candidate in traced.candidates.values()}
    for digest in work.records.digests(Evidence):
        if work.records.get(Evidence, digest).candidate in snapshots:
            yield digest
