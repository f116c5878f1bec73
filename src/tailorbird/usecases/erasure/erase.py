"""Erasure of a data subject: their rows, documents and words are found, removed, and the removal certified.

Each stage can be done again and does then what is left, so whoever is killed, or comes second, loses nothing: the wish is recorded first
(from then on no snapshot takes the person's rows), new snapshots follow, then bytes are destroyed, and last the certificate is written. One
worker at a time holds the lease. No name of a person enters the record: a keyed pseudonym does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field

from tailorbird import data
from tailorbird.auth import Action, signing
from tailorbird.crypto.canonical_json import digest_bytes, digest_of
from tailorbird.crypto.merkle import Proof
from tailorbird.data.pseudonyms import pseudonym
from tailorbird.domain.curation import WITHHELD
from tailorbird.domain.dataset import Provenance, Quarantined, Row, SnapshotManifest
from tailorbird.domain.erasure import (
    Certificate,
    Erasure,
    NotLookedFor,
    Obligation,
    ObligationKind,
    RewrittenDocuments,
    RewrittenSnapshot,
    RowProof,
)
from tailorbird.domain.errors import Conflict, Corrupt, InvalidInput, NotFound
from tailorbird.domain.identity import Signature
from tailorbird.domain.ladder import Candidate
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import PromptSearch
from tailorbird.domain.run import FINISHED, Run, RunState
from tailorbird.domain.value import Digest, Value
from tailorbird.ledger import UnitOfWork
from tailorbird.ledger.artifacts import ArtifactStore
from tailorbird.usecases.anchored_rows import anchored_records, anchored_secret
from tailorbird.usecases.audit_events import Facts, record
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.erasure.lineage import (
    LEARNED_DAYS,
    Found,
    SubjectData,
    due_still,
    duties_of,
    held_by,
    purged,
    reach_of,
    runs_over,
    told_processors,
    trace,
    unused_indexes,
    unused_prompts,
)
from tailorbird.usecases.erasure.places import (
    PLACES,
    REQUESTS,
    REVIEWS,
    UPLOADS,
    Reasons,
    Sheets,
    UploadsFound,
    clear_copies,
    texts_of,
    treated,
)
from tailorbird.usecases.erasure.text_finder import TextFinder, is_long_name
from tailorbird.usecases.leases import owner
from tailorbird.usecases.registry import usecase
from tailorbird.usecases.snapshots import PROVENANCE, manifests_of, objective_of
from tailorbird.usecases.storage_quota import storing


class SnapshotWithout(NamedTuple):
    """The new snapshot, what the certificate says of it, and rows that are others now: a document that answered them went."""

    manifest: SnapshotManifest
    told: RewrittenSnapshot
    changed: tuple[Row, ...]


def rewrite(work: UnitOfWork, artifacts: ArtifactStore, old: Digest, held: SubjectData, secret: bytes) -> SnapshotWithout:
    """Makes the snapshot ``old`` without what is ``held``. Raises DataInvalid when a split would be left without rows."""
    before = work.records.get(SnapshotManifest, old)
    objective = objective_of(work, old, before.objective)
    ranks = objective is not None and objective.task.kind is TaskKind.RANK
    gone = {row.id for row in held.rows}
    documents = {document.id: _erased(document.provenance) for document in held.documents if document.provenance}

    def change(row: Row) -> Row | Quarantined:
        if row.id in gone:
            return _erased(row.provenance)
        return _answered_by_others(row, documents) if ranks and documents else row

    made = data.rewrite_snapshot(before, artifacts, change, secret, documents)
    after = made.manifest
    proofs = data.prove_rows(artifacts, secret, before, after, [row.id for row in held.rows])
    told = RewrittenSnapshot(
        objective=before.objective,
        old=old,
        old_root=before.root,
        old_size=before.size,
        new=digest_of(after),
        new_root=after.root,
        new_size=after.size,
        rows=_stated(proofs),
        documents=_of_documents(artifacts, secret, before, after, held) if documents else None,
    )
    return SnapshotWithout(after, told, tuple(row for _, row in made.changed))


def _erased(place: Provenance) -> Quarantined:
    return Quarantined(file=place.file, line=place.line, code="erased", reason="its subject was erased")


def _answered_by_others(row: Row, gone: Mapping[str, Quarantined]) -> Row | Quarantined:
    left, place = data.without_documents(row.target, gone), row.provenance
    if left == row.target:
        return row
    if not left:
        return data.quarantine_unanswerable(place.file, place.line)
    changed = place.model_copy(update={"transforms": (*place.transforms, "answer_gone")})
    return row.model_copy(update={"id": data.row_id(row.text, left), "target": left, "provenance": changed})


def _of_documents(
    artifacts: ArtifactStore, secret: bytes, before: SnapshotManifest, after: SnapshotManifest, held: SubjectData
) -> RewrittenDocuments:
    was, now = before.sealed_documents, after.sealed_documents
    return RewrittenDocuments(
        count=len(held.documents),
        old_root=was.root if was else "",
        old_size=was.size if was else 0,
        new_root=now.root if now else "",
        new_size=now.size if now else 0,
        proofs=_stated(data.prove_documents(artifacts, secret, before, after, held.documents)),
    )


def _stated(proofs: Sequence[tuple[str, Proof, Proof]]) -> tuple[RowProof, ...]:
    return tuple(RowProof(key=key, was=was.model_dump_json(), is_gone=gone.model_dump_json()) for key, was, gone in proofs)


ErasureId = Annotated[str, Field(min_length=1, max_length=12, pattern=r"^[0-9a-f]+$", description="Id of the erasure, or how it begins.")]

#: How long one stage may take before somebody else may take over.
LEASE = timedelta(minutes=2)
#: What a certificate's signature is for.
PURPOSE = "erasure"


@dataclass(frozen=True)
class _Theirs:
    """What is the person's: in snapshots, in requests, on sheets of label reviews, in uploaded files, and what is left of an earlier look
    because a release needed it then. ``limits`` are what was not looked for."""

    found: Found
    words: Reasons
    sheets: Sheets
    uploads: UploadsFound
    left: frozenset[Digest]
    limits: tuple[NotLookedFor, ...]

    def __bool__(self) -> bool:
        return bool(self.found or self.words or self.sheets or self.uploads or self.left)


class Certified(Value):
    """An erasure and its certificate."""

    erasure: Erasure
    certificate: Certificate


class ErasureList(Value):
    """The tenant's erasures, newest first."""

    erasures: tuple[Erasure, ...]


@usecase("data.erase", "POST", "/api/erasures", Action.ERASE_DATA)
def erase(deps: Dependencies, actor: Actor, subject: Annotated[str, Field(min_length=1, max_length=1000)]) -> Certified:
    """Forget a person, and write the certificate.

    ``subject`` is the person's name as it stands in the column of subjects; the certificate is to be signed. Asked again, it takes up
    what is left. Raises Forbidden, Busy (somebody else is at it), NotFound (nothing is of that person),
    DataInvalid (a snapshot would lose all rows of a split).
    """
    with storing(deps, actor.tenant, bounded=False) as (store, _):
        deps = replace(deps, artifacts=store)
        asked, secret = _ask(deps, actor, subject)
        if theirs := _find(deps, asked, subject):
            rewritten = tuple(_rewrite(deps, actor, asked, digest, theirs.found, secret) for digest in theirs.found)
            asked = _write_certificate(deps, actor, asked, theirs, rewritten, secret)
        done = show_certificate(deps, actor, asked.id)
        for digest in done.certificate.purged:
            store.destroy(digest)
        clear_copies(deps, actor.tenant, done.certificate)
        deps.ledger.flush(scrub=True)
    return done


@usecase("data.erasures", "GET", "/api/erasures", Action.SHOW_DATA)
def list_erasures(deps: Dependencies, actor: Actor) -> ErasureList:
    """List erasures."""
    with deps.ledger.work(actor.tenant, write=False) as work:
        return ErasureList(erasures=work.erasures.all())


@usecase("data.certificate", "GET", "/api/erasures/{erasure}", Action.SHOW_DATA)
def show_certificate(deps: Dependencies, actor: Actor, erasure: ErasureId) -> Certified:
    """Show an erasure and its certificate.

    Raises NotFound, Conflict (it is not carried out yet).
    """
    with deps.ledger.work(actor.tenant, write=False) as work:
        found = work.erasures.get(erasure)
        if found.certificate is None:
            raise Conflict(
                f"the erasure {found.id} is not carried out yet",
                "run tailorbird data erase for the same subject again: it goes on where it stopped",
            )
        return Certified(erasure=found, certificate=work.records.get(Certificate, found.certificate))


@usecase("data.certify", "POST", "/api/erasures/{erasure}/signature", Action.ERASE_DATA)
def certify(deps: Dependencies, actor: Actor, erasure: ErasureId, certificate: Digest, signature: Signature) -> Erasure:
    """File the signature over a certificate.

    The actor signs its digest for the purpose ``erasure``. Raises Forbidden, NotFound, Conflict, InvalidInput (the signature does not
    hold).

    An erasure is done when somebody has put their name to it.
    """
    show_certificate(deps, actor, erasure)
    signing.verify_sent(signature, identity=actor.identity, purpose=PURPOSE, digest=certificate)
    with deps.ledger.work(actor.tenant) as work:
        found = work.erasures.get(erasure)
        done = work.erasures.sign(found.id, certificate, signature.model_copy(update={"at": deps.clock.now()}))
        record(work, "data.erasure_certified", actor.name, found.id, deps.clock.now(), {"certificate": certificate})
        return done


def _ask(deps: Dependencies, actor: Actor, subject: str) -> tuple[Erasure, bytes]:
    """Records the wish. From here on no new snapshot takes a row of this person, whatever becomes of this process."""
    if not subject.strip():
        raise InvalidInput("no subject is named", "give the name as it stands in the column of subjects")
    with deps.ledger.work(actor.tenant) as work:
        secret, now = anchored_secret(work, PROVENANCE), deps.clock.now()
        who = pseudonym(secret, actor.tenant, subject)
        new = Erasure(id=digest_bytes(who.encode())[7:19], tenant=actor.tenant, subject=who, by=actor.name, at=now)
        asked = work.erasures.add(new)
        work.erasures.take(asked.id, owner(), LEASE)
        if asked == new:
            record(work, "data.erasure_asked", actor.name, asked.id, now)
        return asked, secret


def _find(deps: Dependencies, asked: Erasure, subject: str) -> _Theirs:
    """What every snapshot whose bytes are still there holds of the person, what requests and sheets hold, and what an earlier look had to
    leave.

    Raises NotFound when there never was anything.
    """
    with deps.ledger.work(asked.tenant, write=False) as work:
        manifests = manifests_of(work)
    found: dict[Digest, SubjectData] = {}
    for digest, manifest in manifests.items():
        held = held_by(manifest, deps.artifacts, asked.subject)
        if held.rows or held.documents:
            found[digest] = held
        _hold(deps, asked)
    answers = any(not manifests[digest].label_counts for digest in found)
    # The person's name, and what their rows and documents say, as it was read and as it is kept of requests.
    redact = deps.redact or str
    texts = texts_of(found, answers=answers)
    kept = [redact(text) for text in texts]
    quotes = TextFinder([*texts, *(text for text in kept if text != WITHHELD)], [subject])
    words = REQUESTS.find(deps, asked.tenant, subject, quotes)
    with deps.ledger.work(asked.tenant, write=False) as work:
        sheets = REVIEWS.find(work, {item.id for held in found.values() for item in held.items}, quotes)
    _hold(deps, asked)
    uploads, limits = UPLOADS.find(deps, asked.tenant, quotes), not_looked_for(subject, kept.count(WITHHELD))
    if not (found or words or sheets or uploads) and asked.certificate is None:
        _hold(deps, asked, timedelta(0))
        later = "what comes later is left out from now on"
        what = "no snapshot and no uploaded file holds anything of this person, and no request is theirs"
        hint = f"write the name as it stands in the column that is named as `subject`; {later}"
        if limits:
            what = "no snapshot holds a row or document of this person, and no request was sent for them; "
            what += "texts were not searched for the name, which is too short"
            hint = f"erase each longer name by which texts may call them (the full name, a customer number); {later}"
        raise NotFound(what, hint)
    _hold(deps, asked)
    left = frozenset[Digest]()
    if asked.certificate is not None:
        with deps.ledger.work(asked.tenant, write=False) as work:
            reach = work.records.get(Certificate, asked.certificate).reach
            # Indexes, and candidates by their prompts, that a release needed when they were found, and needs no more.
            left = frozenset(unused_indexes(work, deps.artifacts, reach.indexes)) | set(unused_prompts(work, reach.prompts))
    return _Theirs(found, words, sheets, uploads, left, limits)


def _hold(deps: Dependencies, asked: Erasure, ttl: timedelta = LEASE) -> None:
    with deps.ledger.work(asked.tenant) as work:
        work.erasures.take(asked.id, owner(), ttl)


def _rewrite(deps: Dependencies, actor: Actor, asked: Erasure, old: Digest, found: Found, secret: bytes) -> RewrittenSnapshot:
    """Makes the snapshot without what is the person's, and records it."""
    with deps.ledger.work(actor.tenant, write=False) as work:
        made = rewrite(work, deps.artifacts, old, found[old], secret)
    facts: Facts = {"parent": old, "rows": len(found[old].rows), "documents": len(found[old].documents), "why": "erased"}
    with deps.ledger.work(actor.tenant) as work:
        work.erasures.take(asked.id, owner(), LEASE)
        known = anchored_records(work, SnapshotManifest)
        work.records.put(made.manifest)
        work.splits.remember(made.manifest.objective, {row.id: (row.split.value, row.group) for row in made.changed})
        if made.told.new not in known:
            record(work, "data.snapshot_rewritten", actor.name, made.told.new, deps.clock.now(), facts)
    return made.told


class _Plan(NamedTuple):
    """What the record says is to be done: the certificate, but for what is deleted in its transaction, and what goes with it."""

    newest: int | None
    certificate: Certificate
    gone: frozenset[Digest]
    searches: frozenset[Digest]
    runs: tuple[Run, ...]


def _planned(
    deps: Dependencies, work: UnitOfWork, asked: Erasure, theirs: _Theirs, rewritten: tuple[RewrittenSnapshot, ...], kept: set[Digest]
) -> _Plan:
    """Follows what was found through the record. It reads alone."""
    now, found = deps.clock.now(), theirs.found
    # ``found``, and the snapshots that those were made from: their bytes may be destroyed, but what learned from them is not.
    manifests = manifests_of(work)
    lineage = dict(found)
    for digest, held in found.items():
        parent = manifests[digest].parent
        while parent is not None and parent not in lineage and parent in manifests:
            lineage[parent], parent = held, manifests[parent].parent
    traced = trace(work, lineage)
    earlier = work.records.get(Certificate, asked.certificate) if asked.certificate else None
    news = [work.records.get(SnapshotManifest, one.new) for one in rewritten]
    forgotten = unused_prompts(work, traced.demonstrated | theirs.left)
    doomed = purged(work, deps.artifacts, found, news, traced) | theirs.left - set(forgotten)
    doomed |= unused_indexes(work, deps.artifacts, kept)
    uploads = (doomed & UPLOADS.sent(work)) | theirs.uploads.theirs
    over = tuple(runs_over(work, deps.artifacts, uploads))
    reach = reach_of(work, lineage, traced, now)
    reach = reach.model_copy(update={"runs": tuple(sorted({*reach.runs, *(run.id for run in over)}))})
    duties = [*duties_of(found, traced, now.date()), *told_processors(work, traced, theirs.words, now.date())]
    duties += by_hand(theirs.limits, now.date())
    if earlier is not None:
        # An index or a prompt that had to stay then is looked at again each time; a duty that nobody has done yet keeps its first day.
        both = {name: tuple(sorted({*getattr(reach, name), *getattr(earlier.reach, name)})) for name in ("indexes", "prompts")}
        reach, before = reach.model_copy(update=both), due_still(work, earlier.duties)
        known = {(duty.kind, duty.what, duty.why) for duty in before}
        duties = [*before, *(duty for duty in duties if (duty.kind, duty.what, duty.why) not in known)]
    certificate = Certificate(
        erasure=asked.id,
        tenant=asked.tenant,
        subject=asked.subject,
        asked_by=asked.by,
        asked_at=asked.at,
        done_at=now,
        reach=reach,
        snapshots=rewritten,
        purged=tuple(sorted(doomed | uploads | set(earlier.purged if earlier else ()))),
        duties=tuple(sorted(duties, key=lambda duty: (duty.due, duty.kind.value, duty.what))),
        earlier=asked.certificate,
        forgotten=forgotten,
        uploads=tuple(sorted(uploads | set(earlier.uploads if earlier else ()))),
        unread=tuple(sorted(theirs.uploads.unread)),
        places=treated(name_looked_for=all(limit.what != NAME for limit in theirs.limits)),
        not_looked_for=theirs.limits,
    )
    gone = frozenset(row.id for held in found.values() for row in held.rows)
    latest = work.events.latest(1)
    runs = (*traced.runs, *traced.waiting, *over)
    return _Plan(latest[0].index if latest else None, certificate, gone, frozenset(traced.searches), runs)


def _write_certificate(
    deps: Dependencies, actor: Actor, asked: Erasure, theirs: _Theirs, rewritten: tuple[RewrittenSnapshot, ...], secret: bytes
) -> Erasure:
    """One transaction: what was found, what is to be done by whom, what is destroyed next; open runs over the old rows end, words go.

    The record is followed before, while others write; only where the tenant's log has grown since then once more in the transaction."""
    kept = kept_indexes(deps, actor.tenant, theirs.found)
    with deps.ledger.work(actor.tenant, write=False) as work:
        plan = _planned(deps, work, asked, theirs, rewritten, kept)
    with deps.ledger.work(actor.tenant) as work:
        latest = work.events.latest(1)
        if (latest[0].index if latest else None) != plan.newest:
            plan = _planned(deps, work, asked, theirs, rewritten, kept)
        uploads = set(plan.certificate.uploads)
        words, answers = REQUESTS.remove(work, actor.tenant, theirs.words, secret), REVIEWS.remove(work, theirs.sheets)
        certificate = plan.certificate.model_copy(update={"words": words, "answers": answers})
        work.decisions.forget(plan.gone)
        work.splits.forget(plan.gone)
        work.records.forget(Candidate, certificate.forgotten)
        work.records.forget(PromptSearch, plan.searches)
        # A run over rows or files that are being destroyed cannot go on, nor one that would carry on an encoder which learned them; the
        # next adapt is another run, over the new snapshot.
        for run in plan.runs:
            if run.state not in (*FINISHED, RunState.CANCELLED):
                work.runs.set_state(run.id, RunState.CANCELLED)
        UPLOADS.remove(work, uploads)
        digest = work.records.put(certificate)
        done = work.erasures.finish(asked.id, owner(), digest)
        facts: Facts = {"certificate": digest, "rows": len(plan.gone), "documents": certificate.reach.documents}
        facts |= {"snapshots": len(certificate.snapshots), "duties": len(certificate.duties), "requests": len(words)}
        facts |= {"reviews": len(answers), "uploads": len(uploads)}
        record(work, "data.erased", actor.name, asked.id, certificate.done_at, facts)
        return done


def kept_indexes(deps: Dependencies, tenant: str, found: Found) -> set[Digest]:
    """Trees among those that the tenant's folder of indexes remembers: a run that was ended in training left its index and no candidate."""
    theirs = {item.id for held in found.values() for item in held.items}
    theirs |= {document.id for held in found.values() for document in held.documents}
    kept = set[Digest]()
    for digest in {path.read_text(encoding="ascii").strip() for path in deps.indexes(tenant).glob("*.txt")}:
        with suppress(NotFound, Corrupt, FileNotFoundError):  # its bytes are gone
            lines = (Path(deps.artifacts.get_tree(digest)) / "entries.jsonl").read_bytes().splitlines()
            names = {str(json.loads(line)["id"]) for line in lines}
            if theirs & names or theirs & {name.rpartition("#")[0] for name in names}:  # passages are named by their document
                kept.add(digest)
    return kept


#: What a name is called that is not looked for.
NAME = "the person's name, within texts"


def not_looked_for(subject: str, withheld: int = 0) -> tuple[NotLookedFor, ...]:
    """By what of the person no text was searched; ``withheld`` counts their texts that could not be redacted. The name itself is not
    repeated."""
    limits = []
    if not is_long_name(subject):
        why = (
            "the name, as it was given, has fewer than five letters, two Chinese characters, three Korean syllables, or five characters of "
        )
        why += "kana, Thai, Lao, Burmese or Khmer: it would be found in other people's words"
        limits.append(NotLookedFor(what=NAME, places=tuple(place.name for place in PLACES if place.by_name), why=why))
    if withheld:
        what = f"texts of the person as requests keep them, without personal data ({withheld:,} texts)"
        why = "a detector of personal data failed on them; they were looked for as they were read"
        limits.append(NotLookedFor(what=what, places=("requests",), why=why))
    return tuple(limits)


def by_hand(limits: tuple[NotLookedFor, ...], today: date) -> tuple[Obligation, ...]:
    """What people have to do instead."""
    due, delete_all = today + timedelta(days=LEARNED_DAYS), "tailorbird tenant policy --keep-days 0 deletes all kept words of requests"
    duties = []
    for limit in limits:
        why = f"{limit.what} were not looked for, because a detector failed on them; look through what is left"
        if limit.what == NAME:
            why = (
                "the person's name is too short to be looked for there; run tailorbird data erase for each longer name by which texts may "
            )
            why += "call them (the full name, a customer number), and look through what is left"
        what = ", ".join(limit.places)
        duties.append(Obligation(kind=ObligationKind.FIND_BY_HAND, what=what, due=due, why=f"{why}; {delete_all}"))
    return tuple(duties)
