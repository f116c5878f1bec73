"""Replicas are drained by admins of the host alone, never the last by accident, and it is seen when one is empty."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from support.usecases import on_both_databases
from tailorbird.domain.engine_replica import ReplicaDrain, ReplicaStanding
from tailorbird.domain.errors import Conflict, Forbidden, NotFound
from tailorbird.usecases import Dependencies
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.registry import perform
from tailorbird.usecases.replicas import ReplicaView, drain_replica, list_replicas, undrain_replica

ONE, TWO = "http://10.0.0.7:8000", "http://10.0.0.8:8000"


def tell(deps: Dependencies, gateway: str, *seen: ReplicaStanding) -> None:
    with deps.ledger.system() as system:
        system.gateways.tell_replicas(gateway, seen, deps.clock.now())


def standing(address: str, **changes: object) -> ReplicaStanding:
    return ReplicaStanding.model_validate({"address": address, "releases": 5} | changes)


def shown(deps: Dependencies) -> dict[str, ReplicaView]:
    return {one.address: one for one in list_replicas(deps, act_as(deps, "acme", "viewer")).replicas}


@on_both_databases
def test_a_replica_is_drained_seen_to_empty_and_put_back(deps: Dependencies) -> None:
    deps = replace(deps, host="acme")
    admin = act_as(deps, "acme", "admin")
    assert shown(deps) == {}
    for gateway in ("a", "b"):
        tell(deps, gateway, standing(ONE, under_way=2), standing(TWO))
    assert (shown(deps)[ONE].gateways, shown(deps)[ONE].under_way, shown(deps)[ONE].releases) == (2, 4, 5)
    drain_replica(deps, admin, ONE + "/")
    drain_replica(deps, admin, ONE)
    assert (shown(deps)[ONE].drained, shown(deps)[ONE].following, shown(deps)[ONE].empty) == (True, 0, False)
    tell(deps, "a", standing(ONE, drained=True), standing(TWO))
    tell(deps, "b", standing(ONE, drained=True, alone=3), standing(TWO))
    assert (shown(deps)[ONE].following, shown(deps)[ONE].alone, shown(deps)[ONE].empty) == (2, 3, False)
    tell(deps, "b", standing(ONE, drained=True), standing(TWO))
    assert shown(deps)[ONE].empty
    assert not shown(deps)[TWO].drained
    undrain_replica(deps, admin, ONE)
    assert not shown(deps)[ONE].drained
    with pytest.raises(NotFound) as missing:
        undrain_replica(deps, admin, ONE)
    assert missing.value.error_code == "replica_missing"
    with deps.ledger.system(write=False) as system:
        events = [entry.event for entry in system.events.entries() if entry.event.kind.startswith("replica.")]
    assert [(event.kind, event.data) for event in events] == [
        ("replica.drained", {"address": ONE, "forced": False}),
        ("replica.undrained", {"address": ONE}),
    ], "a second drain changes nothing"
    assert {event.actor for event in events} == {"acme/admin"}
    assert all("tenant" in event.rows for event in events)


def test_the_last_that_answers_is_drained_by_force_alone(deps: Dependencies) -> None:
    deps = replace(deps, host="acme")
    admin = act_as(deps, "acme", "admin")
    tell(deps, "a", standing(ONE), standing(TWO, answers=False))
    tell(deps, "b", standing(TWO), standing("http://10.0.0.9:8000"))
    with pytest.raises(Conflict) as refused:
        drain_replica(deps, admin, ONE)
    assert refused.value.error_code == "replica_last"
    assert "--force" in refused.value.hint
    tell(deps, "a", standing(ONE), standing(TWO))
    drain_replica(deps, admin, ONE)
    with pytest.raises(Conflict):
        drain_replica(deps, admin, TWO)
    drain_replica(deps, admin, TWO, force=True)
    drain_replica(deps, admin, ONE, force=True)
    with deps.ledger.system(write=False) as system:
        assert system.tenants.get("acme").drained == tuple(ReplicaDrain(address=one, forced=True) for one in (ONE, TWO))
    assert shown(deps)[ONE].forced


def test_a_replica_that_nobody_has_is_not_drained(deps: Dependencies) -> None:
    deps = replace(deps, host="acme")
    tell(deps, "a", standing(ONE), standing(TWO))
    with pytest.raises(NotFound) as missing:
        drain_replica(deps, act_as(deps, "acme", "admin"), "http://10.0.0.7:8001")
    assert missing.value.error_code == "replica_missing"
    assert ONE in missing.value.hint


def test_a_gateway_that_has_died_is_not_waited_for(deps: Dependencies) -> None:
    deps = replace(deps, host="acme")
    with deps.ledger.system() as system:
        system.gateways.tell_replicas("dead", [standing(ONE, under_way=9)], deps.clock.now() - timedelta(seconds=16))
    tell(deps, "a", standing(ONE), standing(TWO))
    drain_replica(deps, act_as(deps, "acme", "admin"), ONE)
    tell(deps, "a", standing(ONE, drained=True), standing(TWO))
    assert shown(deps)[ONE].empty


def test_a_replica_of_which_no_gateway_says_anything_is_not_called_empty(deps: Dependencies) -> None:
    deps = replace(deps, host="acme")
    tell(deps, "a", standing(ONE), standing(TWO))
    drain_replica(deps, act_as(deps, "acme", "admin"), ONE)
    with deps.ledger.system() as system:
        system.gateways.leave("a")
    assert shown(deps)[ONE].gateways == 0
    assert not shown(deps)[ONE].empty


def test_only_the_hosts_admins_drain_and_only_its_people_look(deps: Dependencies) -> None:
    tell(deps, "a", standing(ONE), standing(TWO))
    hosted = replace(deps, host="acme")
    for role in ("operator", "approver", "viewer", "author"):
        with pytest.raises(Forbidden):
            perform(hosted, act_as(hosted, "acme", role), drain_replica, address=ONE)
        with pytest.raises(Forbidden):
            perform(hosted, act_as(hosted, "acme", role), undrain_replica, address=ONE)
    for elsewhere in (replace(deps, host="house"), replace(deps, host="")):
        for ask in (list_replicas, drain_replica, undrain_replica):
            with pytest.raises(Forbidden) as refused:
                perform(elsewhere, act_as(elsewhere, "acme", "admin"), ask, **({} if ask is list_replicas else {"address": ONE}))
            assert refused.value.error_code == "not_host"
