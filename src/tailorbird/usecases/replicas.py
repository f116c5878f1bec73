"""Replicas of the engine: how they stand before the gateways, and which of them are asked nothing new.

A drain is kept with the tenant of the host, so the log anchors it. Every gateway goes by it within half a second, and after it was started
again.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from tailorbird.auth import Action
from tailorbird.domain.engine_replica import ReplicaAddress, ReplicaDrain, ReplicaStanding
from tailorbird.domain.errors import Conflict, NotFound
from tailorbird.domain.event import Event
from tailorbird.domain.identity import Tenant
from tailorbird.domain.value import Value
from tailorbird.ports.ledger import SystemWork
from tailorbird.serving import GONE_AFTER
from tailorbird.text.normalisation import nearest
from tailorbird.usecases.audit_events import Facts, require_host
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.registry import usecase

#: What each gateway that serves says of its replicas.
Seen = Mapping[str, tuple[ReplicaStanding, ...]]


class ReplicaView(Value):
    """A replica before all gateways that serve.

    ``gateways`` have it, ``answering`` of which it answered when they asked last, and ``following`` of which go by its drain.
    ``under_way`` are their requests to it, ``releases`` the most that one of them knows it to hold, ``alone`` the most of these that no
    other replica holds which may be asked. It is ``empty`` when it is drained and each gateway says that it has nothing under way and
    nothing to move: then it can be ended. Where no gateway has said anything lately, nobody knows.
    """

    address: ReplicaAddress
    drained: bool
    forced: bool = False
    gateways: int
    answering: int
    following: int
    under_way: int
    releases: int
    alone: int
    empty: bool


class ReplicaList(Value):
    """Replicas by address."""

    replicas: tuple[ReplicaView, ...]


@usecase("replica.list", "GET", "/api/replicas", Action.SHOW_TENANT)
def list_replicas(deps: Dependencies, actor: Actor) -> ReplicaList:
    """List the engine's replicas: what answers, what is drained, and what is empty.

    As the gateways said within the last seconds; a gateway with one engine says nothing. Raises Forbidden (``not_host``).
    """
    require_host(deps, actor)
    with deps.ledger.system(write=False) as system:
        return _listed(system.tenants.get(deps.host), _seen(deps, system))


@usecase("replica.drain", "POST", "/api/replicas/drain", Action.DRAIN_REPLICA)
def drain_replica(deps: Dependencies, actor: Actor, address: ReplicaAddress, *, force: bool = False) -> ReplicaList:
    """Ask a replica nothing new; what it alone holds is loaded by others first.

    With ``force`` it is asked nothing from now on, whatever others hold, and even where it is the last. Raises NotFound
    (``replica_missing``), Conflict (``replica_last``: no other that answers is asked).
    """
    require_host(deps, actor)
    with deps.ledger.system() as system:
        seen, host = _seen(deps, system), system.tenants.get(deps.host)
        found = _known(address, seen)
        if not force:
            _demand_others(found, host, seen)
        wanted = ReplicaDrain(address=found, forced=force)
        if wanted not in host.drained:
            host = _changed(host, found, wanted)
            _write(deps, actor, system, host, "replica.drained", {"address": found, "forced": force})
        return _listed(host, seen)


@usecase("replica.undrain", "POST", "/api/replicas/undrain", Action.DRAIN_REPLICA)
def undrain_replica(deps: Dependencies, actor: Actor, address: ReplicaAddress) -> ReplicaList:
    """Ask a drained replica again.

    Raises NotFound (``replica_missing``: it is not drained).
    """
    require_host(deps, actor)
    with deps.ledger.system() as system:
        seen, host = _seen(deps, system), system.tenants.get(deps.host)
        found = _spelled(address, {drain.address for drain in host.drained}, "no drained replica")
        host = _changed(host, found, None)
        _write(deps, actor, system, host, "replica.undrained", {"address": found})
        return _listed(host, seen)


def _seen(deps: Dependencies, system: SystemWork) -> Seen:
    return system.gateways.replicas(deps.clock.now() - timedelta(seconds=GONE_AFTER))


def _known(address: str, seen: Seen) -> str:
    return _spelled(address, {one.address for standings in seen.values() for one in standings}, "no gateway that serves has a replica")


def _spelled(address: str, known: set[str], missing: str) -> str:
    """The address as it is known; a slash at its end makes no difference. Raises NotFound."""
    found = next((one for one in known if one.rstrip("/") == address.rstrip("/")), None)
    if found is None:
        near = nearest(address, sorted(known))
        hint = f"did you mean {near}?" if near else "see: tailorbird replica list (gateways with one engine have none to drain)"
        raise NotFound(f"{missing} {address}", hint, code="replica_missing")
    return found


def _demand_others(address: str, host: Tenant, seen: Seen) -> None:
    """Raises Conflict where a gateway would be left with no replica that answers and is asked."""
    drained = {address, *(drain.address for drain in host.drained)}
    for standings in seen.values():
        here = {one.address for one in standings}
        if address in here and not any(one.answers for one in standings if one.address not in drained):
            raise Conflict(
                f"{address} is the last replica that answers: drained, nothing would",
                "put another one back first (tailorbird replica undrain ADDRESS), or drain it with --force",
                code="replica_last",
            )


def _changed(host: Tenant, address: str, drain: ReplicaDrain | None) -> Tenant:
    others = [each for each in host.drained if each.address != address]
    kept = sorted([*others, *([drain] if drain else [])], key=lambda each: each.address)
    return host.model_copy(update={"drained": tuple(kept)})


def _write(deps: Dependencies, actor: Actor, system: SystemWork, host: Tenant, kind: str, facts: Facts) -> None:
    system.tenants.replace(host)
    who = f"{actor.tenant}/{actor.name}"
    system.events.append([Event(kind=kind, tenant=host.name, actor=who, subject=host.name, at=deps.clock.now(), data=facts)])


def _listed(host: Tenant, seen: Seen) -> ReplicaList:
    drains = {drain.address: drain for drain in host.drained}
    addresses = sorted({*drains, *(one.address for standings in seen.values() for one in standings)})
    return ReplicaList(replicas=tuple(_view(address, drains.get(address), seen) for address in addresses))


def _view(address: str, drain: ReplicaDrain | None, seen: Seen) -> ReplicaView:
    here = [one for standings in seen.values() for one in standings if one.address == address]
    return ReplicaView(
        address=address,
        drained=drain is not None,
        forced=drain is not None and drain.forced,
        gateways=len(here),
        answering=sum(one.answers for one in here),
        following=sum(one.drained for one in here) if drain is not None else 0,
        under_way=sum(one.under_way for one in here),
        releases=max((one.releases for one in here), default=0),
        alone=max((one.alone for one in here), default=0),
        empty=drain is not None and bool(here) and all(one.is_empty for one in here),
    )
