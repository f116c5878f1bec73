"""A rollback rehearsed: a staged release is put under an alias of its own, taken back, and the seconds of both are recorded.

The alias is that of the objective in staging, so nobody's requests are touched; the machinery is that of production: the alias moves,
gateways notice, the release is loaded, verified and let answer, and the former one answers again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

from tailorbird.auth import Action
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.deployment import Alias, AliasTarget, alias_path
from tailorbird.domain.errors import Conflict, NotFound, Unavailable
from tailorbird.domain.release import Release, ReleaseState
from tailorbird.domain.value import Digest, Value
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.serving import GONE_AFTER
from tailorbird.usecases.audit_events import Facts, permit, record
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.registry import ReleaseDigest, usecase

#: Seconds within which every gateway must have followed, and between two looks.
PATIENCE, _LOOK_EVERY = 120.0, 0.02


class Drill(Value):
    """What a drill found: seconds from the move of the name until every gateway answered by it, in and back."""

    release: Digest
    alias: str
    gateways: int
    promote_seconds: float
    rollback_seconds: float


@usecase("release.drill", "POST", "/api/releases/{digest}/drill", Action.DRILL)
def drill_release(deps: Dependencies, actor: Actor, digest: ReleaseDigest) -> Drill:
    """Rehearse promotion and rollback in staging, and record the seconds.

    Raises as ``rehearse``.
    """
    return rehearse(deps, actor, digest, PATIENCE, time.sleep)


def rehearse(deps: Dependencies, actor: Actor, digest: str, patience: float, wait: Callable[[float], None]) -> Drill:
    """Puts a staged release in and takes it back, under the alias of its objective in staging.

    Raises Conflict (it is not staged; no gateway serves), Unavailable (a gateway did not follow in time; the name is taken back).
    """
    permit(deps, actor, Action.DRILL, digest)
    with deps.ledger.work(actor.tenant, write=False) as work:
        release = work.releases.get(digest)
    if release.state is not ReleaseState.STAGED:
        raise Conflict(
            f"release {short(release.digest)} is {release.state.value}, and a drill needs a staged one",
            f"stage it: tailorbird release stage {short(release.digest)}",
            code="release_state",
        )
    gateways = _serving(deps)
    try:
        there = _timed(deps, actor, release, (_incumbent(deps, actor, release), release.digest), patience, wait)
    finally:
        back = _timed(deps, actor, release, (_incumbent(deps, actor, release),), patience, wait)
        _withdraw(deps, actor, release)
    found = Drill(
        release=release.digest,
        alias=alias_path(actor.tenant, release.content.objective_name, "staging"),
        gateways=gateways,
        promote_seconds=round(there, 3),
        rollback_seconds=round(back, 3),
    )
    facts: Facts = {"promote_seconds": found.promote_seconds, "rollback_seconds": found.rollback_seconds, "gateways": gateways}
    with deps.ledger.work(actor.tenant) as work:
        record(work, "release.drilled", actor.name, release.digest, deps.clock.now(), facts)
    return found


def _timed(
    deps: Dependencies, actor: Actor, release: Release, order: tuple[Digest | None, ...], patience: float, wait: Callable[[float], None]
) -> float:
    """Points the alias in staging to the last of ``order`` and returns the seconds until every gateway has followed."""
    with deps.ledger.work(actor.tenant) as work:
        _point(deps, work, actor, release, order[-1])
    started = time.monotonic()
    with deps.ledger.system(write=False) as system:
        moves = system.tenants.aliases_moved()
    while not _followed(deps, moves):
        if time.monotonic() - started > patience:
            raise Unavailable(
                f"not every gateway had followed within {patience:g} s",
                "look at /readyz and at the log of the gateways: the release may not load",
                code="drill_timeout",
            )
        wait(_LOOK_EVERY)
    return time.monotonic() - started


def _point(deps: Dependencies, work: UnitOfWork, actor: Actor, release: Release, to: Digest | None) -> None:
    name = release.content.objective_name
    try:
        before = work.aliases.get(name, "staging")
    except NotFound:
        before = None
    alias = Alias(
        tenant=actor.tenant,
        name=name,
        stage="staging",
        targets=(AliasTarget(release=to),) if to else (),
        previous=before.targets if before else (),
        version=before.version + 1 if before else 1,
        moved_at=deps.clock.now(),
        moved_by=actor.name,
    )
    work.aliases.put(alias)
    record(work, "alias.rehearsed", actor.name, alias.path, deps.clock.now(), {"now": to})


def _withdraw(deps: Dependencies, actor: Actor, release: Release) -> None:
    with deps.ledger.work(actor.tenant) as work:
        if work.aliases.get(release.content.objective_name, "staging").targets:
            _point(deps, work, actor, release, None)


def _incumbent(deps: Dependencies, actor: Actor, release: Release) -> Digest | None:
    """What answers the objective's name now: the way back is a way to somewhere, where there is something."""
    with deps.ledger.work(actor.tenant, write=False) as work:
        try:
            targets = work.aliases.get(release.content.objective_name).targets
        except NotFound:
            return None
    return targets[0].release if targets else None


def _serving(deps: Dependencies) -> int:
    """How many gateways serve. Raises Conflict when none does: there is nothing to rehearse with."""
    with deps.ledger.system(write=False) as system:
        count = len(system.gateways.serving(deps.clock.now() - timedelta(seconds=GONE_AFTER)))
    if not count:
        raise Conflict("no gateway serves", "start one: tailorbird serve", code="no_gateway")
    return count


def _followed(deps: Dependencies, moves: int) -> bool:
    with deps.ledger.system(write=False) as system:
        reached = system.gateways.serving(deps.clock.now() - timedelta(seconds=GONE_AFTER))
    return bool(reached) and min(reached.values()) >= moves
