"""Lineage of a data subject: snapshots that hold their rows, runs that saw them, what was made of them, and what people have to do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from tailorbird import data
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.dataset import Document, Provenance, Row, SnapshotManifest, Split
from tailorbird.domain.deployment import name_and_stage
from tailorbird.domain.endpoint import HostedModel
from tailorbird.domain.erasure import ErasureReach, Obligation, ObligationKind
from tailorbird.domain.errors import NotFound
from tailorbird.domain.evidence import Evidence
from tailorbird.domain.ladder import Candidate, Making, Measured
from tailorbird.domain.objective import Objective, TaskKind
from tailorbird.domain.plan import Plan
from tailorbird.domain.prompt import PromptSearch
from tailorbird.domain.release import Release, ReleaseState
from tailorbird.domain.run import FINISHED, FLOOR, PLAN, SNAPSHOT, Run, RunState
from tailorbird.domain.value import Digest
from tailorbird.ledger import UnitOfWork
from tailorbird.ledger.artifacts import ArtifactStore
from tailorbird.text.search_index import passages_of
from tailorbird.text.words import normalise
from tailorbird.usecases.anchored_rows import anchored_records, anchored_steps
from tailorbird.usecases.endpoints import TEACHER, endpoint_events


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
    known, searches = set(anchored_records(work, Candidate)), set(anchored_records(work, PromptSearch))  # what was not forgotten before
    runs = work.runs.all()
    for run, steps in zip(runs, anchored_steps(work, *runs), strict=True):
        results = [(step.name, step.result) for step in steps if step.result]
        snapshot = next((result for name, result in results if name == SNAPSHOT), None)
        if snapshot is None or snapshot not in found:
            continue
        traced.runs.append(run)
        rows = {item.id for item in found[snapshot].items}
        for name, result in results:
            making = work.records.get(Making, result) if name.startswith("make ") else None
            floor = work.records.get(Measured, result).candidate if name == FLOOR else None
            candidate, log = making.candidate if making else floor, making.search if making else None
            if candidate in known:
                _classify(traced, candidate, work.records.get(Candidate, candidate), texts, found[snapshot])
            if log in searches and any(rows.intersection(one.demonstrations) for one in work.records.get(PromptSearch, log).tried):
                traced.searches.add(log)
    traced.releases = [release for release in work.releases.all() if release.content.snapshot in found]
    _trace_borrowed(work, traced)
    for evidence in (work.records.get(Evidence, digest) for digest in anchored_records(work, Evidence)):
        if evidence.candidate in traced.candidates:
            traced.evidence |= {items for items in (evidence.items, evidence.shifted) if items}
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
        plan = next((step.result for step in steps if step.name == PLAN and step.result), None)
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
        aliases=tuple(
            alias.path
            for alias in work.aliases.all(stage=None)
            if releases & ({target.release for target in (*alias.targets, *alias.previous)} | {alias.mirror})
        ),
        feedback=work.feedback.count(releases),
        requests=sum(seen.requests for seen in work.requests.traffic(_EVER, now) if seen.release in releases),
        rollouts=tuple(sorted(rollout.id for rollout in rollouts)),
        documents=len(documents),
        passages=sum(len(passages_of(document)) for document in documents.values()),
    )


def alive(work: UnitOfWork) -> tuple[Release, ...]:
    """Releases that answer somebody, or may yet."""
    return tuple(release for release in work.releases.all() if release.state not in ENDED)


def _learned_parts(candidate: Candidate) -> list[Digest]:
    """Trees of what learned: an adapter, weights, a floor, encoders. Those that a release lent learned from that release's rows."""
    looked_up = candidate.retrieval
    encoders = (looked_up.tuned, looked_up.reranker) if looked_up and looked_up.release is None else ()
    return [part for part in (candidate.adapter, candidate.weights, candidate.floor, candidate.tuned, *encoders) if part]


def _classify(traced: Lineage, digest: Digest, candidate: Candidate, texts: set[str], held: SubjectData) -> None:
    """Only rows of train are learned from or shown; those of dev and test are measured on, and leave counts alone. Documents are shown by
    whatever looks them up, and what learns beside them has read them."""
    traced.candidates[digest] = candidate
    in_train = any(row.split is Split.TRAIN for row in held.rows)
    what = candidate.retrieval.what if candidate.retrieval else None
    demonstrated = any(normalise(demonstration.text) in texts for demonstration in candidate.prompt.demonstrations)
    indexed = (what == "examples" and in_train) or (what in ("passages", "documents") and bool(held.documents))
    if demonstrated:
        traced.demonstrated.add(digest)
    if demonstrated or indexed:
        traced.shown.add(digest)
    if demonstrated or indexed or (in_train and _learned_parts(candidate)):
        traced.learned.add(digest)


def runs_over(work: UnitOfWork, artifacts: ArtifactStore, files: Set[Digest]) -> Iterator[Run]:
    """Runs that were submitted with one of ``files``."""
    for run in work.runs.all():
        if run.inputs and artifacts.exists(run.inputs) and files & set(artifacts.tree(run.inputs).values()):
            yield run


#: What shows a person's very words must go within days; what only learned from them within the month that Article 12(3) GDPR gives.
SHOWN_DAYS, LEARNED_DAYS = 3, 30

#: Lines named in one duty at most.
_LINES = 50


def duties_of(found: Found, traced: Lineage, today: date) -> tuple[Obligation, ...]:
    """Obligations for people, soonest first: releases that must go, files that are not ours, backups."""
    later = today + timedelta(days=LEARNED_DAYS)
    duties = list[Obligation]()
    for release in traced.releases:
        if release.state in ENDED or release.content.candidate not in traced.learned:
            continue
        kind, due, alias = ObligationKind.RETRAIN, later, f"{release.content.tenant}/{release.content.objective_name}"
        why = f"it learned from the person's rows ({alias}); adapt again, release that, and let this one go"
        if release.content.candidate in traced.shown:
            kind, due = ObligationKind.RETIRE, today + timedelta(days=SHOWN_DAYS)
            why = f"its prompt or its index shows the person's words; tailorbird rollback {alias}, adapt, and erase again: then they go"
        duties.append(Obligation(kind=kind, what=short(release.digest), due=due, why=why))
    for release in traced.borrowing:
        if release.state not in ENDED and release.content.retrieval:
            alias, ranker = f"{release.content.tenant}/{release.content.objective_name}", short(release.content.retrieval.release or "")
            why = f"its passages are found by the encoder of release {ranker}, which learned from the person's rows ({alias}); "
            why += "adapt the objective of that encoder again, release it, and then adapt this one"
            duties.append(Obligation(kind=ObligationKind.RETRAIN, what=short(release.digest), due=later, why=why))
    lines: dict[str, set[int]] = defaultdict(set)
    for held in found.values():
        for place in held.places:
            lines[place.file].add(place.line)
    for file, numbers in lines.items():  # as the file was read
        named = ", ".join(map(str, sorted(numbers)[:_LINES])) + (f" and {len(numbers) - _LINES} more" if len(numbers) > _LINES else "")
        why = f"the source still has what is the person's, on line {named}; tailorbird leaves them out from now on"
        duties.append(Obligation(kind=ObligationKind.CLEAN_SOURCE, what=file, due=later, why=why))
    why = "backups made before today hold the old snapshots: delete their folders; a restored one must be followed by the same erasure"
    duties.append(Obligation(kind=ObligationKind.EXPIRE_BACKUPS, what="backups", due=later, why=why))
    return tuple(sorted(duties, key=lambda duty: (duty.due, duty.kind.value, duty.what)))


def purged(work: UnitOfWork, artifacts: ArtifactStore, found: Found, news: Collection[SnapshotManifest], traced: Lineage) -> set[Digest]:
    """Artifacts that hold the person's words: rows and documents of snapshots that are others in the ``news`` made from them, files that
    came with a run, results of items whose answers are texts, indexes that no release uses."""
    stay = {part for manifest in news for part in (manifest.rows, manifest.documents)}
    doomed = set[Digest]()
    for snapshot, held in found.items():
        manifest = work.records.get(SnapshotManifest, snapshot)
        doomed |= {part for part in (manifest.rows, manifest.documents) if part and part not in stay}
        files = [place.file_digest or manifest.files.get(place.file) for place in {place.file: place for place in held.places}.values()]
        doomed |= {file for file in files if file and artifacts.exists(file)}
    if any(work.records.get(Objective, run.objective).task.kind is not TaskKind.CLASSIFY for run in traced.runs):
        doomed |= traced.evidence
    return doomed | unused_indexes(work, artifacts, traced.indexes)


def due_still(work: UnitOfWork, duties: Collection[Obligation]) -> tuple[Obligation, ...]:
    """Those of ``duties`` that nobody has done, as far as the record shows: a release that has ended asks for nothing more."""
    names = {short(release.digest) for release in alive(work)}
    about_releases = (ObligationKind.RETIRE, ObligationKind.RETRAIN)
    return tuple(duty for duty in duties if duty.kind not in about_releases or duty.what in names)


def unused_indexes(work: UnitOfWork, artifacts: ArtifactStore, indexes: Collection[Digest]) -> set[Digest]:
    """Trees of ``indexes`` that no release needs any more, with their files."""
    used = {release.content.retrieval.index for release in alive(work) if release.content.retrieval}
    needed = {file for index in used if artifacts.exists(index) for file in artifacts.tree(index).values()}
    unused = {index for index in indexes if index not in used and artifacts.exists(index)}
    return unused | {file for index in unused for file in artifacts.tree(index).values()} - needed


def unused_prompts(work: UnitOfWork, candidates: Collection[Digest]) -> tuple[Digest, ...]:
    """Members of ``candidates`` whose record is there and that no release needs any more."""
    used = {release.content.candidate for release in alive(work)}
    return tuple(sorted((set(candidates) & set(anchored_records(work, Candidate))) - used))


#: Runs and requests that one duty names, at most.
_NAMED = 20


class _Receiver(NamedTuple):
    """Whom something was sent to: the endpoint's name and address then, and where the data went, as far as the log tells."""

    name: str
    url: str
    region: str = ""


def told_processors(work: UnitOfWork, traced: Lineage, requests: Collection[str], today: date) -> tuple[Obligation, ...]:
    """A duty for each hosted model that rows of ``traced`` runs, texts beside them, passages of the person's documents, or the person's
    ``requests`` may have been sent to (Article 19 GDPR)."""
    sent: dict[tuple[str, str], list[str]] = defaultdict(list)
    regions: dict[tuple[str, str], str] = {}
    for receiver, what in (*_by_log(work, traced), *_by_requests(work, requests), *_by_passages(traced)):
        sent[receiver.name, receiver.url].append(what)
        regions[receiver.name, receiver.url] = receiver.region or regions.get((receiver.name, receiver.url), "")
    return tuple(
        Obligation(
            kind=ObligationKind.TELL_PROCESSOR,
            what=f"{name} ({url or 'its address is not on record'})",
            due=today + timedelta(days=LEARNED_DAYS),
            why=_why(regions[name, url], list(dict.fromkeys(found))),
        )
        for (name, url), found in sorted(sent.items())
    )


def _why(region: str, found: list[str]) -> str:
    named = ", ".join(found[:_NAMED]) + (f" and {len(found) - _NAMED} more" if len(found) > _NAMED else "")
    where = f", in {region}" if region else ""
    return f"the person's words may have been sent there{where} ({named}); that cannot be called back: ask for their deletion there"


def _by_log(work: UnitOfWork, traced: Lineage) -> Iterator[tuple[_Receiver, str]]:
    """What the log says was sent: by runs over the person's rows, to whichever endpoint (the objective's, or that of a release beside which
    a candidate was measured); and texts that were labelled for the same objectives, of which nobody recorded whose they are."""
    runs, objectives = {run.id for run in traced.runs}, {run.objective_name for run in traced.runs}
    # Endpoints that have labelled rows of the runs, by what their objectives say, and which.
    sources = [source for run in traced.runs for source in work.records.get(Objective, run.objective).data]
    labelling = [(source.source.generated.endpoint, source.path) for source in sources if source.source.generated is not None]
    addresses: dict[str, str] = {}
    for event in endpoint_events(work):
        if event.kind == "endpoint.added":
            addresses[str(event.data.get("name"))] = str(event.data.get("url", ""))
        if event.kind != "data.sent":
            continue
        receiver = _Receiver(event.subject, str(event.data.get("url", "")), str(event.data.get("region", "")))
        if event.data.get("run") in runs:
            yield receiver, f"{event.data.get('split')} of run {event.data.get('run')}"
        elif event.data.get("split") == TEACHER and event.data.get("objective") in objectives:
            yield receiver, f"texts to be labelled for {event.data.get('objective')}"
    for name, path in labelling:
        yield _Receiver(name, addresses.get(name, "")), f"{path}, which it has labelled"


def _by_passages(traced: Lineage) -> Iterator[tuple[_Receiver, str]]:
    """Releases that may have shown passages of the person's documents to a hosted model, with whoever's request."""
    for release in traced.releases:
        content = release.content
        if content.hosted is not None and content.retrieval is not None and content.retrieval.index in traced.indexes:
            yield _Receiver(content.hosted.endpoint, content.hosted.url), f"passages that release {short(release.digest)} quotes"


def _by_requests(work: UnitOfWork, requests: Collection[str]) -> Iterator[tuple[_Receiver, str]]:
    """The person's requests that a hosted release was asked, or may have been before another answered."""
    hosted: dict[str, list[HostedModel]] = defaultdict(list)
    for release in work.releases.all():
        if release.content.hosted is not None:
            hosted[release.content.objective_name].append(release.content.hosted)
    for request in sorted(requests) if hosted else ():
        with suppress(NotFound):
            for model in hosted.get(name_and_stage(work.requests.get(request).alias)[0], ()):
                yield _Receiver(model.endpoint, model.url), f"request {request}"
