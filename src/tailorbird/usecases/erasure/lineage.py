"""Lineage of a data subject: snapshots that hold their rows, runs that saw them, artifacts made from them, and releases that serve them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tailorbird import data
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.dataset import Document, Provenance, Row, SnapshotManifest, Split
from tailorbird.domain.deployment import Alias
from tailorbird.domain.erasure import ErasureReach
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.evidence import Evidence
from tailorbird.domain.ladder import Candidate, Making, Measured
from tailorbird.domain.plan import Plan
from tailorbird.domain.prompt import PromptSearch
from tailorbird.domain.release import Release, ReleaseState
from tailorbird.domain.run import FINISHED, Run, RunState, Step
from tailorbird.domain.value import Digest
from tailorbird.ports.artifacts import ArtifactStore
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.system.files import remove_folder
from tailorbird.text.normalisation import normalise
from tailorbird.text.search_index import passages_of
from tailorbird.text.text_finder import TextFinder
from tailorbird.usecases.anchored_rows import anchored_records, anchored_steps
from tailorbird.usecases.dependencies import Dependencies
from tailorbird.usecases.steps import transitions
from tailorbird.usecases.uploads import Upload, readable_upload, uploads_folder


class SubjectData(NamedTuple):
    """A person's rows and documents in one snapshot; ``answers`` are the items of those rows that are conversations."""

    rows: Sequence[Row]
    documents: Sequence[Document] = ()
    answers: Sequence[Row] = ()

    @property
    def items(self) -> Sequence[Row]:
        """What was shown to a model, or measured."""
        return self.answers or self.rows

    @property
    def places(self) -> Iterator[Provenance]:
        """Where each is from."""
        yield from (row.provenance for row in self.rows)
        yield from (document.provenance for document in self.documents if document.provenance is not None)


#: What is held of a person, by the snapshot that it must leave.
Found = Mapping[Digest, SubjectData]


def held_by(manifest: SnapshotManifest, artifacts: ArtifactStore, subject: str) -> SubjectData:
    """What is there of the person with the pseudonym ``subject``; nothing where bytes were destroyed: the snapshot that was made from it
    then holds what was left."""
    if not all(map(artifacts.exists, filter(None, (manifest.rows, manifest.documents)))):
        return SubjectData(())
    rows = data.rows_of_subject(manifest, artifacts, subject)
    answers = tuple(item for row in rows for item in data.answer_items(row, manifest))
    return SubjectData(rows, data.documents_of_subject(manifest, artifacts, subject), answers)


def with_ancestors(found: Found, manifests: Mapping[Digest, SnapshotManifest]) -> Found:
    """``found``, and the snapshots that those were made from: their bytes may be destroyed, but what learned from them is not."""
    lineage = dict(found)
    for digest, held in found.items():
        parent = manifests[digest].parent
        while parent is not None and parent not in lineage and parent in manifests:
            lineage[parent], parent = held, manifests[parent].parent
    return lineage


_EVER = datetime(1970, 1, 1, tzinfo=UTC)
#: Releases that nobody is answered by any more, nor ever will be.
ENDED = (ReleaseState.RETIRED, ReleaseState.REJECTED)
#: Rollouts that are looked through, newest first: those that go on are among them.
_ROLLOUTS = 1000


@dataclass
class Lineage:
    """``learned`` are candidates that hold something of the rows or documents: weights, an adapter or an encoder that learned them, a
    prompt or an index that shows them. ``shown`` are those of ``learned`` that hold the very text; ``demonstrated`` those whose prompt
    does, or has an instruction that was written in view of them. ``searches`` are logs of prompts' searches that name such rows.
    ``borrowing`` are releases of other objectives that find passages by an encoder which learned, ``waiting`` open runs whose plan would
    make such a release."""

    runs: list[Run] = field(default_factory=list)
    candidates: dict[Digest, Candidate] = field(default_factory=dict)
    learned: set[Digest] = field(default_factory=set)
    shown: set[Digest] = field(default_factory=set)
    demonstrated: set[Digest] = field(default_factory=set)
    searches: set[Digest] = field(default_factory=set)
    releases: list[Release] = field(default_factory=list)
    borrowing: list[Release] = field(default_factory=list)
    waiting: list[Run] = field(default_factory=list)
    evidence: set[Digest] = field(default_factory=set)

    @property
    def indexes(self) -> set[Digest]:
        """Trees of entries among which are the person's."""
        return {found.retrieval.index for digest in self.shown if (found := self.candidates[digest]).retrieval}

    @property
    def parts(self) -> set[Digest]:
        """Trees of what learned: adapters, weights, floors, encoders."""
        return {part for digest in self.learned for part in _learned_parts(self.candidates[digest])}


def trace(work: UnitOfWork, found: Found) -> Lineage:
    """Follows what was ``found`` through the record."""
    traced, texts = Lineage(), {normalise(item.text) for held in found.values() for item in held.items}
    runs = work.runs.all()
    for run, known in zip(runs, anchored_steps(work, *runs), strict=True):
        steps = [step for step in known if step.result]
        snapshot = next((step.result for step in steps if step.name == transitions.SNAPSHOT), None)
        if snapshot is not None and snapshot in found:
            traced.runs.append(run)
            for digest, candidate in _candidates(work, steps):
                _classify(traced, digest, candidate, texts, found[snapshot])
            traced.searches |= set(_searches(work, steps, {item.id for item in found[snapshot].items}))
    traced.releases = [release for release in work.releases.all() if release.content.snapshot in found]
    _trace_borrowed(work, traced)
    evidence = [work.records.get(Evidence, digest) for digest in _evidence_of(work, traced)]
    traced.evidence = {items for each in evidence for items in (each.items, each.shifted) if items}
    return traced


def _trace_borrowed(work: UnitOfWork, traced: Lineage) -> None:
    """Follows an encoder that learned to where ``grounding`` took it: it goes on knowing the rows there."""
    parts, known = traced.parts, {release.digest for release in traced.releases}
    for release in work.releases.all():
        looked_up = release.content.retrieval
        if release.digest not in known and looked_up and looked_up.release and parts & {looked_up.tuned, looked_up.reranker}:
            traced.borrowing.append(release)
    for run in work.runs.all():
        if run.state in (*FINISHED, RunState.CANCELLED):
            continue
        (steps,) = anchored_steps(work, run)
        plan = next((step.result for step in steps if step.name == transitions.PLAN and step.result), None)
        rungs = work.records.get(Plan, plan).rungs if plan else ()
        if any(rung.ranker and parts & {rung.ranker.tuned, rung.ranker.reranker} for rung in rungs):
            traced.waiting.append(run)


def reach_of(work: UnitOfWork, found: Found, traced: Lineage, now: datetime) -> ErasureReach:
    """The same as names and counts, for the certificate. Requests are those that the reached releases ever answered."""
    releases = {release.digest for release in (*traced.releases, *traced.borrowing)}
    documents = {document.id: document for held in found.values() for document in held.documents}
    rollouts = [rollout for rollout in work.rollouts.latest(_ROLLOUTS) if releases & {rollout.candidate, rollout.incumbent}]
    return ErasureReach(
        snapshots=tuple(sorted(found)),
        runs=tuple(sorted(run.id for run in traced.runs)),
        candidates=tuple(sorted(traced.candidates)),
        adapters=tuple(sorted(traced.parts)),
        prompts=tuple(sorted(traced.demonstrated)),
        indexes=tuple(sorted(traced.indexes)),
        releases=tuple(sorted(releases)),
        aliases=tuple(alias.path for alias in work.aliases.all(stage=None) if releases & _deployed(alias)),
        feedback=work.feedback.count(releases),
        requests=sum(seen.requests for seen in work.requests.traffic(_EVER, now) if seen.release in releases),
        rollouts=tuple(sorted(rollout.id for rollout in rollouts)),
        documents=len(documents),
        passages=sum(len(passages_of(document)) for document in documents.values()),
    )


def alive(work: UnitOfWork) -> tuple[Release, ...]:
    """Releases that answer somebody, or may yet."""
    return tuple(release for release in work.releases.all() if release.state not in ENDED)


def _deployed(alias: Alias) -> set[Digest]:
    """What answers under an alias, what is asked beside it, and what answers again after a rollback."""
    targets = {target.release for target in (*alias.targets, *alias.previous)}
    return targets | {alias.mirror} if alias.mirror else targets


def _learned_parts(candidate: Candidate) -> list[Digest]:
    """Trees of what learned: an adapter, weights, a floor, encoders. Those that a release lent learned from that release's rows."""
    looked_up = candidate.retrieval
    encoders = (looked_up.tuned, looked_up.reranker) if looked_up and looked_up.release is None else ()
    return [part for part in (candidate.adapter, candidate.weights, candidate.floor, candidate.tuned, *encoders) if part]


def _candidates(work: UnitOfWork, steps: Sequence[Step]) -> Iterator[tuple[Digest, Candidate]]:
    """What the steps made, as far as it was not forgotten before."""
    known = set(anchored_records(work, Candidate))
    for step in steps:
        digest = _made(work, step)
        if digest in known:
            yield digest, work.records.get(Candidate, digest)


def _searches(work: UnitOfWork, steps: Sequence[Step], rows: set[str]) -> Iterator[Digest]:
    """Logs of searches, as far as they were not forgotten before, that tried a prompt which shows one of ``rows`` or was written in view of
    one."""
    known = set(anchored_records(work, PromptSearch))
    for step in steps:
        log = work.records.get(Making, str(step.result)).search if step.name.startswith("make ") else None
        if log in known and any(rows & {*one.demonstrations, *one.proposed_from} for one in work.records.get(PromptSearch, log).tried):
            yield log


def _made(work: UnitOfWork, step: Step) -> Digest | None:
    if step.name.startswith("make "):
        return work.records.get(Making, str(step.result)).candidate
    return work.records.get(Measured, str(step.result)).candidate if step.name == transitions.FLOOR else None


def _classify(traced: Lineage, digest: Digest, candidate: Candidate, texts: set[str], held: SubjectData) -> None:
    """Only rows of train are learned from or shown; those of dev and test are measured on, and leave counts alone. Documents are shown by
    whatever looks them up, and what learns beside them has read them."""
    traced.candidates[digest] = candidate
    in_train = any(row.split is Split.TRAIN for row in held.rows)
    what = candidate.retrieval.what if candidate.retrieval else None
    demonstrated = any(normalise(demonstration.text) in texts for demonstration in candidate.prompt.demonstrations)
    demonstrated |= not {item.id for item in held.items}.isdisjoint(candidate.proposed_from)
    indexed = (what == "examples" and in_train) or (what in ("passages", "documents") and bool(held.documents))
    if demonstrated:
        traced.demonstrated.add(digest)
    if demonstrated or indexed:
        traced.shown.add(digest)
    if demonstrated or indexed or (in_train and _learned_parts(candidate)):
        traced.learned.add(digest)


def _evidence_of(work: UnitOfWork, traced: Lineage) -> Iterator[Digest]:
    for digest in anchored_records(work, Evidence):
        if work.records.get(Evidence, digest).candidate in traced.candidates:
            yield digest


class UploadsFound(NamedTuple):
    """Uploaded files that hold something of the person, those that could not be searched, and how many uploads under way did."""

    theirs: frozenset[Digest] = frozenset()
    unread: frozenset[Digest] = frozenset()
    under_way: int = 0

    def __bool__(self) -> bool:
        return bool(self.theirs or self.under_way)


def find_uploads(deps: Dependencies, tenant: str, quotes: TextFinder) -> UploadsFound:
    """Searches every file that the tenant has uploaded, whole or under way. Raises Corrupt, Unavailable.

    Those under way that hold something of the person are removed at once, and first: their sender is refused, and can send the file without
    the person. One that became whole before is found among the whole ones.
    """
    under_way = 0
    for folder in _under_way(deps, tenant, quotes):
        remove_folder(folder)
        under_way += 1
    theirs, unread = set[Digest](), set[Digest]()
    for digest in sorted(uploaded(deps, tenant)):
        found = _in_artifact(deps, digest, quotes)
        if found is None:
            unread.add(digest)
        elif found:
            theirs.add(digest)
    return UploadsFound(frozenset(theirs), frozenset(unread), under_way)


def uploaded(deps: Dependencies, tenant: str) -> set[Digest]:
    """Files that the tenant has sent and that are still there."""
    with deps.ledger.work(tenant, write=False) as work:
        sent = uploaded_by(work)
        trees = [run.inputs for run in work.runs.all() if run.inputs]
    came = {digest for tree in trees if deps.artifacts.exists(tree) for digest in deps.artifacts.tree(tree).values()}
    return {digest for digest in sent | came if deps.artifacts.exists(digest)}


def uploaded_by(work: UnitOfWork) -> set[Digest]:
    """Files that the tenant has sent."""
    return {work.records.get(Upload, digest).file for digest in anchored_records(work, Upload)}


def runs_over(work: UnitOfWork, artifacts: ArtifactStore, files: Set[Digest]) -> Iterator[Run]:
    """Runs that were submitted with one of ``files``."""
    for run in work.runs.all():
        if run.inputs and artifacts.exists(run.inputs) and files & set(artifacts.tree(run.inputs).values()):
            yield run


def forget_uploads(work: UnitOfWork, files: Set[Digest]) -> None:
    """The tenant has sent these no longer: they cannot be submitted."""
    work.records.forget(Upload, [digest_of(Upload(file=digest)) for digest in files])


def _in_artifact(deps: Dependencies, digest: Digest, quotes: TextFinder) -> bool | None:
    """Whether the file holds something of the person; None where it cannot be searched."""
    with readable_upload(deps, digest) as path:
        return _in_file(path, quotes)


def _under_way(deps: Dependencies, tenant: str, quotes: TextFinder) -> Iterator[Path]:
    place = uploads_folder(deps, tenant)
    for folder in sorted(place.iterdir()) if place.is_dir() else ():
        with suppress(FileNotFoundError):  # it ended, or was broken off, meanwhile
            if any(path.is_file() and _in_file(path, quotes) for path in folder.rglob("*")):
                yield folder


def _in_file(path: Path, quotes: TextFinder) -> bool | None:
    try:
        return any(quotes.held_by(text) for text in data.file_texts(path, "an uploaded file"))
    except DataInvalid:
        return None
