"""Audit events of the use cases, and permission checks that log denials."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime

from tailorbird.auth import Action, authorise
from tailorbird.domain.errors import Forbidden, NotFound
from tailorbird.domain.event import Event, LogEntry, Remark
from tailorbird.domain.value import Digest
from tailorbird.ledger import UnitOfWork
from tailorbird.usecases.dependencies import Actor, Dependencies

#: What an event may carry.
Facts = dict[str, str | int | float | bool | None]


def record(work: UnitOfWork, kind: str, actor: str, subject: str, at: datetime, facts: Facts | None = None) -> None:
    """Appends one event to the log in the caller's transaction; rows that were changed in it so far are anchored by it."""
    work.events.append([Event(kind=kind, tenant=work.tenant, actor=actor, subject=subject, at=at, data=facts or {})])


def remark(work: UnitOfWork, text: str) -> Digest | None:
    """Keeps what somebody wrote beside the log, and returns what stands for it in the log; None where nothing was written."""
    return work.records.put(Remark(text=text, salt=secrets.token_hex(16))) if text else None


def remarks(work: UnitOfWork, entries: Iterable[LogEntry]) -> dict[Digest, str]:
    """The remarks that ``entries`` stand for, where they have not been erased."""
    found: dict[Digest, str] = {}
    for digest in {str(entry.event.data.get("reason", "")) for entry in entries}:
        with suppress(NotFound):
            found[digest] = work.records.get(Remark, digest).text
    return found


def permit(deps: Dependencies, actor: Actor, action: Action, subject: str = "", asked: str = "") -> None:
    """Lets ``actor`` go on when its roles allow ``action``. Raises Forbidden, after logging the denial."""
    try:
        authorise(actor.identity, action)
    except Forbidden as error:
        deny(deps, actor, action.value, subject, error, asked)
        raise


def deny(deps: Dependencies, actor: Actor, action: str, subject: str, error: Forbidden, asked: str = "") -> None:
    """Logs a denial in a transaction of its own; of a flood only the first, the others are counted (see ``tell_denials``). ``asked`` is
    what the action was to be done to, as it was named."""
    if not deps.denials.is_written(actor.tenant, actor.name, deps.clock.now()):
        return
    with deps.ledger.work(actor.tenant) as work:
        facts: Facts = {"action": action, "code": error.error_code}
        facts |= {"asked": asked} if asked else {}
        record(work, "access.denied", actor.name, subject or action, deps.clock.now(), facts)


def tell_denials(deps: Dependencies, *, all_of_them: bool = False) -> None:
    """Writes one event for all denials of an actor, in a minute that is over, that were not written by themselves; with ``all_of_them``
    (at the end of a process) in one that is not, too."""
    now = deps.clock.now()
    for flood in deps.denials.take(None if all_of_them else now):
        facts: Facts = {"action": "several", "code": "flood", "count": flood.denied, "since": flood.since.isoformat()}
        with suppress(NotFound), deps.ledger.work(flood.tenant) as work:
            record(work, "access.denied", flood.actor or "unknown", "flood", now, facts)


def require_host(deps: Dependencies, actor: Actor) -> None:
    """Raises Forbidden unless the actor belongs to the tenant that runs this installation."""
    if not deps.host or actor.tenant != deps.host:
        raise Forbidden("only people of the host do that: it is about the whole installation", "ask who runs it", code="not_host")
