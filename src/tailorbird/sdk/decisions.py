"""Signed decisions on releases: the statement is fetched, compared with what was meant, signed here and filed."""

from __future__ import annotations

from typing import Literal

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.errors import Conflict
from tailorbird.domain.release import Release, Statement
from tailorbird.sdk.session import WorkspaceSession
from tailorbird.usecases.releases import promotion

#: The identity that decides, where nobody is named.
APPROVER = "approver"


def decide(session: WorkspaceSession, digest: str, decision: Literal["approve", "reject"], reason: str) -> Release:
    """Asks what is to be signed, checks that it says what was meant, signs it with the key on this machine, and files it."""
    stated = session.ask_as(APPROVER, promotion.statement, digest=digest, decision=decision, reason=reason)
    _check(stated, digest, decision, reason, session.name(APPROVER))
    signature = session.sign(decision, digest_of(stated), APPROVER)
    return session.ask_as(APPROVER, promotion.decide, digest=digest, statement=stated, signature=signature)


def _check(stated: Statement, digest: str, decision: str, reason: str, name: str) -> None:
    """A key signs nothing that its owner did not mean, whoever hands it over."""
    about = stated.release.removeprefix("sha256:").startswith(digest.removeprefix("sha256:"))
    if not about or (stated.decision, stated.reason, stated.identity) != (decision, reason, name):
        raise Conflict("the server asks to sign something else than was meant", "do not sign; tell the operator", code="statement_other")
