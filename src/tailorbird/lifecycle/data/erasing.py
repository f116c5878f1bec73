"""A person is forgotten: found wherever their rows reached, taken out, and certified.

In: an actor, the name of a person as it stands in the data. Out: an erasure with its certificate. Must not know: how rows are stored.

Each stage can be done again and does then what is left, so whoever is killed, or comes second, loses nothing: the wish is recorded first
(from then on no snapshot takes the person's rows), new snapshots follow, then bytes are destroyed, and last the certificate is written. One
worker at a time holds the lease. No name of a person enters the record: a keyed pseudonym does.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Mapping, Sequence
from datetime import timedelta

from tailorbird import data
from tailorbird.access import Action, signing
from tailorbird.domain.dataset import Quarantined, Row, SnapshotManifest
from tailorbird.domain.erasure import Certificate, Erasure, RewrittenSnapshot, RowProof
from tailorbird.domain.errors import Conflict, Corrupt, InvalidInput, NotFound
from tailorbird.domain.identity import Signature
from tailorbird.domain.run import RunState
from tailorbird.domain.value import Digest
from tailorbird.foundations.canonical import digest_bytes, digest_of
from tailorbird.foundations.pseudonyms import pseudonym
from tailorbird.lifecycle.data.duties import duties_of, purged
from tailorbird.lifecycle.data.heeding import PROVENANCE, manifests_of
from tailorbird.lifecycle.data.reach import Traced, reach_of, trace
from tailorbird.lifecycle.journal import Facts, permit, record
from tailorbird.lifecycle.parts import Actor, Parts, Progress
from tailorbird.ports.ledger import UnitOfWork

#: How long one stage may take before somebody else may take over.
LEASE = timedelta(minutes=2)
#: What a certificate's signature is for.
PURPOSE = "erasure"

#: Rows of the person, by the snapshot that they must leave.
_Found = Mapping[Digest, Sequence[Row]]


def erase(parts: Parts, actor: Actor, subject: str, progress: Progress) -> Erasure:
    """Forgets ``subject``, the name of a person as it stands in the column of subjects, and writes the certificate, to be signed.

    Asked again, it takes up what is left. Raises Forbidden, Busy (somebody else is at it), NotFound (no row is of that person), DataInvalid
    (a snapshot would lose all rows of a split).
    """
    permit(parts, actor, Action.ERASE_DATA, "data.erase")
    asked, secret = _ask(parts, actor, subject)
    progress.tell("looking for rows of this person in all snapshots")
    found = _find(parts, actor, asked)
    if found:
        rewritten = tuple(_rewrite(parts, actor, asked, digest, rows, secret) for digest, rows in found.items())
        progress.tell(f"made {len(rewritten)} snapshots without {sum(map(len, found.values()))} rows; following what they reached")
        asked = _write_certificate(parts, actor, asked, found, rewritten)
    _, certificate = certificate_of(parts, actor.tenant, asked.id)
    progress.tell(f"destroying {len(certificate.purged)} artifacts that hold the person's words")
    for digest in certificate.purged:
        parts.artifacts.destroy(digest)
    shutil.rmtree(parts.curations(actor.tenant), ignore_errors=True)
    return asked


def certify(parts: Parts, actor: Actor, erasure: str, certificate: Digest, signature: Signature) -> Erasure:
    """Files the actor's signature over the certificate. Raises Forbidden, NotFound, Conflict, InvalidInput (the signature does not hold).

    An erasure is done when somebody has put their name to it.
    """
    permit(parts, actor, Action.ERASE_DATA, "data.certify")
    certificate_of(parts, actor.tenant, erasure)
    present = actor.identity.model_copy(update={"former_keys": ()})
    try:
        signing.verify(signature, identity=present, purpose=PURPOSE, digest=certificate)
    except Corrupt as error:
        raise InvalidInput(error.message, "sign the certificate with your present key", code="signature_invalid") from None
    with parts.ledger.work(actor.tenant) as work:
        found = work.erasures.get(erasure)
        done = work.erasures.sign(found.id, certificate, signature.model_copy(update={"at": parts.clock.now()}))
        record(work, "data.erasure_certified", actor.name, found.id, parts.clock.now(), {"certificate": certificate})
        return done


def certificate_of(parts: Parts, tenant: str, erasure: str) -> tuple[Erasure, Certificate]:
    """An erasure and its certificate. Raises NotFound, Conflict (it is not carried out yet)."""
    with parts.ledger.work(tenant, write=False) as work:
        found = work.erasures.get(erasure)
        if found.certificate is None:
            raise Conflict(
                f"the erasure {found.id} is not carried out yet",
                "run tailorbird data erase for the same subject again: it goes on where it stopped",
                code="erasure_open",
            )
        return found, work.records.get(Certificate, found.certificate)


def _ask(parts: Parts, actor: Actor, subject: str) -> tuple[Erasure, bytes]:
    """Records the wish. From here on no new snapshot takes a row of this person, whatever becomes of this process."""
    if not subject.strip():
        raise InvalidInput("no subject is named", "give the name as it stands in the column of subjects", code="subject_empty")
    with parts.ledger.work(actor.tenant) as work:
        secret, now = work.secrets.get(PROVENANCE), parts.clock.now()
        who = pseudonym(secret, actor.tenant, subject)
        new = Erasure(id=digest_bytes(who.encode())[7:19], tenant=actor.tenant, subject=who, by=actor.name, at=now)
        asked = work.erasures.add(new)
        work.erasures.take(asked.id, _owner(), LEASE)
        if asked == new:
            record(work, "data.erasure_asked", actor.name, asked.id, now)
        return asked, secret


def _find(parts: Parts, actor: Actor, asked: Erasure) -> _Found:
    """The person's rows in every snapshot whose rows are still there. Raises NotFound when there never were any."""
    with parts.ledger.work(actor.tenant, write=False) as work:
        manifests = manifests_of(work)
    found: dict[Digest, Sequence[Row]] = {}
    for digest, manifest in manifests.items():
        if parts.artifacts.exists(manifest.rows) and (rows := data.rows_of_subject(manifest, parts.artifacts, asked.subject)):
            found[digest] = rows
        _hold(parts, asked)
    if not found and asked.certificate is None:
        _hold(parts, asked, timedelta(0))
        raise NotFound(
            "no snapshot holds a row of this person",
            "write the name as it stands in the column that is named as `subject`; rows that come later are left out from now on",
            code="subject_missing",
        )
    return found


def _hold(parts: Parts, asked: Erasure, ttl: timedelta = LEASE) -> None:
    with parts.ledger.work(asked.tenant) as work:
        work.erasures.take(asked.id, _owner(), ttl)


def _rewrite(parts: Parts, actor: Actor, asked: Erasure, old: Digest, rows: Sequence[Row], secret: bytes) -> RewrittenSnapshot:
    """Makes the snapshot without the person's rows, and proves both ends: each row was in the old one, and none is in the new."""
    with parts.ledger.work(actor.tenant, write=False) as work:
        before = work.records.get(SnapshotManifest, old)
    after = data.rewrite(before, parts.artifacts, lambda row: _gone(row, asked.subject), secret).manifest
    proofs = data.prove_rows(parts.artifacts, secret, before, after, [row.id for row in rows])
    with parts.ledger.work(actor.tenant) as work:
        work.erasures.take(asked.id, _owner(), LEASE)
        new, known = digest_of(after), work.records.digests(SnapshotManifest)
        work.records.put(after)
        if new not in known:
            record(work, "data.snapshot_rewritten", actor.name, new, parts.clock.now(), {"parent": old, "rows": len(rows), "why": "erased"})
    return RewrittenSnapshot(
        objective=before.objective,
        old=old,
        old_root=before.root,
        old_size=before.size,
        new=new,
        new_root=after.root,
        new_size=after.size,
        rows=tuple(RowProof(key=key, was=was.model_dump_json(), is_gone=gone.model_dump_json()) for key, was, gone in proofs),
    )


def _gone(row: Row, subject: str) -> Row | Quarantined:
    if row.provenance.subject != subject:
        return row
    place = row.provenance
    return Quarantined(file=place.file, line=place.line, code="erased", reason="its subject was erased")


def _write_certificate(parts: Parts, actor: Actor, asked: Erasure, found: _Found, rewritten: tuple[RewrittenSnapshot, ...]) -> Erasure:
    """One transaction: what was found, what is to be done by whom, what is destroyed next; open runs over the old rows end."""
    now = parts.clock.now()
    with parts.ledger.work(actor.tenant) as work:
        traced = trace(work, found)
        certificate = Certificate(
            erasure=asked.id,
            tenant=actor.tenant,
            subject=asked.subject,
            asked_by=asked.by,
            asked_at=asked.at,
            done_at=now,
            reach=reach_of(work, found, traced, now),
            snapshots=rewritten,
            purged=purged(work, parts.artifacts, found, traced),
            duties=duties_of(found, traced, now.date()),
            earlier=asked.certificate,
        )
        gone = {row.id for rows in found.values() for row in rows}
        work.decisions.forget(gone)
        work.splits.forget(gone)
        _end_open_runs(work, traced)
        digest = work.records.put(certificate)
        done = work.erasures.finish(asked.id, _owner(), digest)
        facts: Facts = {"certificate": digest, "snapshots": len(rewritten), "rows": len(gone), "duties": len(certificate.duties)}
        record(work, "data.erased", actor.name, asked.id, now, facts)
        return done


def _end_open_runs(work: UnitOfWork, traced: Traced) -> None:
    """A run over rows that are being destroyed cannot go on; the next adapt is another run, over the new snapshot."""
    for run in traced.runs:
        if run.state not in (RunState.DONE, RunState.CANCELLED):
            work.runs.set_state(run.id, RunState.CANCELLED)


def _owner() -> str:
    return f"{platform.node()}:{os.getpid()}"
