"""Erasure of a data subject: their rows, documents and words are found, removed, and the removal certified.

Each stage can be done again and does then what is left, so whoever is killed, or comes second, loses nothing: the wish is recorded first
(from then on no snapshot takes the person's rows), new snapshots follow, then bytes are destroyed, and last the certificate is written. One
worker at a time holds the lease. No name of a person enters the record: a keyed pseudonym does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import Field

from tailorbird import data
from tailorbird.auth import Action, signing
from tailorbird.crypto.canonical_json import digest_bytes, digest_of
from tailorbird.crypto.merkle import Proof
from tailorbird.domain.dataset import Provenance, Quarantined, Row, SnapshotManifest
from tailorbird.domain.erasure import (
    Certificate,
    Erasure,
    ErasureReach,
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
from tailorbird.ports.artifacts import ArtifactStore
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.text.pseudonyms import pseudonym
from tailorbird.text.text_finder import is_long_name
from tailorbird.usecases.anchored_rows import anchored_records, anchored_secret
from tailorbird.usecases.audit_events import Facts, permit, record
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.erasure.lineage import (
    Found,
    SubjectData,
    UploadsFound,
    find_uploads,
    forget_uploads,
    held_by,
    reach_of,
    runs_over,
    trace,
    uploaded_by,
    with_ancestors,
)
from tailorbird.usecases.erasure.obligations import LEARNED_DAYS, due_still, duties_of, purged, unused_indexes, unused_prompts
from tailorbird.usecases.erasure.places import PLACES, clear_copies, treated
from tailorbird.usecases.erasure.request_erasure import Reasons, Sheets, find_answers, find_words, forget_answers, forget_words, quotes_of
from tailorbird.usecases.erasure.sent_data import told_processors
from tailorbird.usecases.leases import owner
from tailorbird.usecases.registry import usecase
from tailorbird.usecases.snapshots.snapshot_queries import PROVENANCE, manifests_of, objective_of
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
    because a release needed it then. ``limits`` are what was not looked for; ``unsaid``: an earlier certificate is silent on them."""

    found: Found
    words: Reasons
    sheets: Sheets
    uploads: UploadsFound
    left: frozenset[Digest]
    limits: tuple[NotLookedFor, ...]
    unsaid: bool

    def __bool__(self) -> bool:
        return bool(self.found or self.words or self.sheets or self.uploads or self.left or self.unsaid)


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
    permit(deps, actor, Action.ERASE_DATA, "data.erase")
    with storing(deps, actor.tenant, bounded=False) as store:
        asked = _erase(replace(deps, artifacts=store), actor, subject)
    return show_certificate(deps, actor, asked.id)


def _erase(deps: Dependencies, actor: Actor, subject: str) -> Erasure:
    asked, secret = _ask(deps, actor, subject)
    theirs = _find(deps, asked, subject)
    if theirs:
        found = theirs.found
        rewritten = tuple(_rewrite(deps, actor, asked, digest, found, secret) for digest in found)
        asked = _write_certificate(deps, actor, asked, theirs, rewritten, secret)
    certificate = show_certificate(deps, actor, asked.id).certificate
    for digest in certificate.purged:
        deps.artifacts.destroy(digest)
    clear_copies(deps, actor.tenant, certificate)
    deps.ledger.flush(scrub=True)
    return asked


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
                code="erasure_open",
            )
        return Certified(erasure=found, certificate=work.records.get(Certificate, found.certificate))


@usecase("data.certify", "POST", "/api/erasures/{erasure}/signature", Action.ERASE_DATA)
def certify(deps: Dependencies, actor: Actor, erasure: ErasureId, certificate: Digest, signature: Signature) -> Erasure:
    """File the signature over a certificate.

    The actor signs its digest for the purpose ``erasure``. Raises Forbidden, NotFound, Conflict, InvalidInput (the signature does not
    hold).

    An erasure is done when somebody has put their name to it.
    """
    permit(deps, actor, Action.ERASE_DATA, "data.certify")
    show_certificate(deps, actor, erasure)
    present = actor.identity.model_copy(update={"former_keys": ()})
    try:
        signing.verify(signature, identity=present, purpose=PURPOSE, digest=certificate)
    except Corrupt as error:
        raise InvalidInput(error.message, "sign the certificate with your present key", code="signature_invalid") from None
    with deps.ledger.work(actor.tenant) as work:
        found = work.erasures.get(erasure)
        done = work.erasures.sign(found.id, certificate, signature.model_copy(update={"at": deps.clock.now()}))
        record(work, "data.erasure_certified", actor.name, found.id, deps.clock.now(), {"certificate": certificate})
        return done


def _ask(deps: Dependencies, actor: Actor, subject: str) -> tuple[Erasure, bytes]:
    """Records the wish. From here on no new snapshot takes a row of this person, whatever becomes of this process."""
    if not subject.strip():
        raise InvalidInput("no subject is named", "give the name as it stands in the column of subjects", code="subject_empty")
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
    quotes, withheld = quotes_of(subject, found, deps.redact or str, answers=answers)
    words = find_words(deps, asked.tenant, subject, quotes)
    with deps.ledger.work(asked.tenant, write=False) as work:
        sheets = find_answers(work, {item.id for held in found.values() for item in held.items}, quotes)
    _hold(deps, asked)
    uploads, limits = find_uploads(deps, asked.tenant, quotes), not_looked_for(subject, withheld)
    if not (found or words or sheets or uploads) and asked.certificate is None:
        _hold(deps, asked, timedelta(0))
        raise _missing(limits)
    _hold(deps, asked)
    return _Theirs(found, words, sheets, uploads, _left(deps, asked), limits, bool(limits) and _is_silent(deps, asked))


def _missing(limits: tuple[NotLookedFor, ...]) -> NotFound:
    later = "what comes later is left out from now on"
    if limits:
        return NotFound(
            "no snapshot holds a row or document of this person, and no request was sent for them; texts were not searched for the name, "
            "which is too short",
            f"erase each longer name by which texts may call them (the full name, a customer number); {later}",
            code="subject_missing",
        )
    return NotFound(
        "no snapshot and no uploaded file holds anything of this person, and no request is theirs",
        f"write the name as it stands in the column that is named as `subject`; {later}",
        code="subject_missing",
    )


def _is_silent(deps: Dependencies, asked: Erasure) -> bool:
    """True where there is a certificate, and it does not say what was not looked for."""
    if asked.certificate is None:
        return False
    with deps.ledger.work(asked.tenant, write=False) as work:
        return not work.records.get(Certificate, asked.certificate).not_looked_for


def _left(deps: Dependencies, asked: Erasure) -> frozenset[Digest]:
    """Indexes, and candidates by their prompts, that a release needed when they were found, and needs no more."""
    if asked.certificate is None:
        return frozenset()
    with deps.ledger.work(asked.tenant, write=False) as work:
        reach = work.records.get(Certificate, asked.certificate).reach
        return frozenset(unused_indexes(work, deps.artifacts, reach.indexes)) | frozenset(unused_prompts(work, reach.prompts))


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


def _write_certificate(
    deps: Dependencies, actor: Actor, asked: Erasure, theirs: _Theirs, rewritten: tuple[RewrittenSnapshot, ...], secret: bytes
) -> Erasure:
    """One transaction: what was found, what is to be done by whom, what is destroyed next; open runs over the old rows end, words go."""
    now, found = deps.clock.now(), theirs.found
    kept = kept_indexes(deps, actor.tenant, found)
    with deps.ledger.work(actor.tenant) as work:
        lineage = with_ancestors(found, manifests_of(work))
        traced = trace(work, lineage)
        earlier = work.records.get(Certificate, asked.certificate) if asked.certificate else None
        news = [work.records.get(SnapshotManifest, one.new) for one in rewritten]
        forgotten = unused_prompts(work, traced.demonstrated | theirs.left)
        doomed = purged(work, deps.artifacts, found, news, traced) | theirs.left - set(forgotten)
        doomed |= unused_indexes(work, deps.artifacts, kept)
        uploads = (doomed & uploaded_by(work)) | theirs.uploads.theirs
        doomed |= uploads
        over = tuple(runs_over(work, deps.artifacts, uploads))
        told = told_processors(work, traced, theirs.words, now.date())
        certificate = Certificate(
            erasure=asked.id,
            tenant=actor.tenant,
            subject=asked.subject,
            asked_by=asked.by,
            asked_at=asked.at,
            done_at=now,
            reach=_joined(reach_of(work, lineage, traced, now), over, earlier),
            snapshots=rewritten,
            purged=tuple(sorted(doomed | set(earlier.purged if earlier else ()))),
            duties=_duties(work, (*duties_of(found, traced, now.date()), *told, *by_hand(theirs.limits, now.date())), earlier),
            earlier=asked.certificate,
            words=forget_words(work, actor.tenant, theirs.words, secret),
            forgotten=forgotten,
            answers=forget_answers(work, theirs.sheets),
            uploads=tuple(sorted(uploads | set(earlier.uploads if earlier else ()))),
            unread=tuple(sorted(theirs.uploads.unread)),
            places=treated(name_looked_for=all(limit.what != NAME for limit in theirs.limits)),
            not_looked_for=theirs.limits,
        )
        gone = {row.id for held in found.values() for row in held.rows}
        work.decisions.forget(gone)
        work.splits.forget(gone)
        work.records.forget(Candidate, forgotten)
        work.records.forget(PromptSearch, traced.searches)
        _end_open_runs(work, [*traced.runs, *traced.waiting, *over])
        forget_uploads(work, uploads)
        digest = work.records.put(certificate)
        done = work.erasures.finish(asked.id, owner(), digest)
        record(work, "data.erased", actor.name, asked.id, now, _facts(digest, certificate, len(gone)))
        return done


def _facts(digest: Digest, certificate: Certificate, rows: int) -> Facts:
    counts = {
        "snapshots": len(certificate.snapshots),
        "duties": len(certificate.duties),
        "requests": len(certificate.words),
        "reviews": len(certificate.answers),
        "uploads": len(certificate.uploads),
    }
    return {"certificate": digest, "rows": rows, "documents": certificate.reach.documents, **counts}


def _joined(reach: ErasureReach, over: Iterable[Run], earlier: Certificate | None) -> ErasureReach:
    """With runs ``over`` files that go, and with what was reached before: an index or a prompt that had to stay then is looked at again
    each time."""
    reach = reach.model_copy(update={"runs": tuple(sorted({*reach.runs, *(run.id for run in over)}))})
    if earlier is None:
        return reach
    before = earlier.reach
    both = {name: tuple(sorted({*getattr(reach, name), *getattr(before, name)})) for name in ("indexes", "prompts")}
    return reach.model_copy(update=both)


def _duties(work: UnitOfWork, new: tuple[Obligation, ...], earlier: Certificate | None) -> tuple[Obligation, ...]:
    """The new duties, and those of before that nobody has done yet, each with its first day."""
    before = due_still(work, earlier.duties) if earlier else ()
    known = {(duty.kind, duty.what, duty.why) for duty in before}
    more = [duty for duty in new if (duty.kind, duty.what, duty.why) not in known]
    return tuple(sorted([*before, *more], key=lambda duty: (duty.due, duty.kind.value, duty.what)))


def _end_open_runs(work: UnitOfWork, runs: Iterable[Run]) -> None:
    """A run over rows or files that are being destroyed cannot go on, nor one that would carry on an encoder which learned them; the next
    adapt is another run, over the new snapshot."""
    for run in runs:
        if run.state not in (*FINISHED, RunState.CANCELLED):
            work.runs.set_state(run.id, RunState.CANCELLED)


def kept_indexes(deps: Dependencies, tenant: str, found: Found) -> set[Digest]:
    """Trees among those that the tenant's folder of indexes remembers: a run that was ended in training left its index and no candidate."""
    theirs = {item.id for held in found.values() for item in held.items}
    theirs |= {document.id for held in found.values() for document in held.documents}
    kept = {path.read_text(encoding="ascii").strip() for path in deps.indexes(tenant).glob("*.txt")}
    return {digest for digest in kept if theirs & _entries(deps, digest)}


def _entries(deps: Dependencies, index: Digest) -> set[str]:
    """Items and documents of an index, by name; passages are named by their document. Nothing where its bytes are gone."""
    try:
        lines = (Path(deps.artifacts.get_tree(index)) / "entries.jsonl").read_bytes().splitlines()
    except (NotFound, Corrupt, FileNotFoundError):
        return set()
    names = [str(json.loads(line)["id"]) for line in lines]
    return {*names, *(name.rpartition("#")[0] for name in names)}


#: What a name is called that is not looked for.
NAME = "the person's name, within texts"
_DELETE_ALL = "tailorbird tenant policy --keep-days 0 deletes all kept words of requests"


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
    due = today + timedelta(days=LEARNED_DAYS)
    return tuple(Obligation(kind=ObligationKind.FIND_BY_HAND, what=", ".join(each.places), due=due, why=_instead(each)) for each in limits)


def _instead(limit: NotLookedFor) -> str:
    if limit.what == NAME:
        return (
            "the person's name is too short to be looked for there; run tailorbird data erase for each longer name by which texts may call "
            f"them (the full name, a customer number), and look through what is left; {_DELETE_ALL}"
        )
    return f"{limit.what} were not looked for, because a detector failed on them; look through what is left; {_DELETE_ALL}"
