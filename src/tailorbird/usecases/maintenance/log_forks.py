"""Forks of the log: a place outside holds a checkpoint that the log does not continue, until an admin has settled it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tailorbird.auth import Action
from tailorbird.domain.errors import Conflict
from tailorbird.domain.value import Value
from tailorbird.usecases.audit_events import Facts, record, remark
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.maintenance.checkpoint_shipping import LOG_SUBJECT, SETTLED, LogFork, find_forks, forget_forks
from tailorbird.usecases.registry import usecase

Why = Annotated[str, Field(min_length=1, max_length=2000)]


class Settlement(Value):
    """The forks that were settled."""

    forks: tuple[LogFork, ...]


def demand_no_fork(deps: Dependencies) -> None:
    """Raises Conflict (``log_forked``) while the log does not continue what a place for checkpoints holds, and no admin has settled it."""
    forks = find_forks(deps)
    if forks:
        raise Conflict(
            f"the log does not continue what was shipped: {forks[0].text}",
            "find out who put the record back or changed it; then an admin settles it: tailorbird audit settle --reason ...",
            code="log_forked",
        )


@usecase("audit.settle", "POST", "/api/audit/settlements", Action.SETTLE_LOG)
def settle_forks(deps: Dependencies, actor: Actor, reason: Why) -> Settlement:
    """Settle forks of the log.

    After a backup took the record's place, say: what each place holds is put on record with the reason, and the places begin anew with
    the next checkpoint. Raises Conflict where there is nothing to settle.
    """
    forks = find_forks(deps)
    if not forks:
        raise Conflict("the log continues what every place holds", "there is nothing to settle", code="log_not_forked")
    with deps.ledger.work(actor.tenant) as work:
        why = remark(work, reason)
        for fork in forks:
            facts: Facts = {"place": fork.place, "size": fork.size, "root": fork.root, "reason": why}
            record(work, SETTLED, actor.name, LOG_SUBJECT, deps.clock.now(), facts)
    forget_forks(deps, forks)
    return Settlement(forks=forks)
