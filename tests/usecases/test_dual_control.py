"""Deciding roles take two admins where a tenant has them, by every way in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from support.raw_tables import raw
from tailorbird.auth import create_key, load_key, public_key, refusal_to_confirm, sign
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.errors import Conflict, Corrupt, Forbidden, InvalidInput, TailorbirdError, Unauthenticated
from tailorbird.domain.event import Event
from tailorbird.domain.identity import DECIDING_ROLES, Identity, Role
from tailorbird.usecases import Actor, Dependencies
from tailorbird.usecases.identities import act_as, add_identity, addition, confirm, disable, enrol, initialise, key_path
from tailorbird.usecases.maintenance.audit import check_log
from tailorbird.usecases.registry import perform
from tailorbird.usecases.sessions import log_in, open_session
from tailorbird.usecases.tenants import list_tenants

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def act(deps: Dependencies, name: str) -> Actor:
    return act_as(deps, "acme", name)


def add(deps: Dependencies, by: str, name: str, *roles: Role) -> Identity:
    public = create_key(key_path(deps, "acme", name))
    return perform(deps, act(deps, by), add_identity, name=name, roles=frozenset(roles), public_key=public)


@pytest.fixture
def two(deps: Dependencies) -> Dependencies:
    """A tenant to which its only admin has added a second one."""
    assert not add(deps, "admin", "bea", Role.ADMIN).pending
    return deps


def refused(deps: Dependencies, by: str, name: str) -> str:
    with pytest.raises(TailorbirdError) as caught:
        perform(deps, act(deps, by), confirm, name=name)
    return caught.value.error_code


def intact(deps: Dependencies) -> bool:
    return check_log(deps).problems == ()


@pytest.mark.parametrize("role", sorted(DECIDING_ROLES))
def test_what_one_admin_gives_waits_for_the_other(two: Dependencies, role: Role) -> None:
    assert add(two, "admin", "cleo", role, Role.AUTHOR).pending
    with pytest.raises(Forbidden) as caught:
        perform(two, act(two, "cleo"), list_tenants)
    assert caught.value.error_code == "forbidden"
    with pytest.raises(Unauthenticated):
        open_session(two, *log_in(act(two, "cleo"), "https://here", two.clock.now()), {"https://here"})
    assert refused(two, "admin", "cleo") == "forbidden"
    assert refused(two, "operator", "cleo") == "forbidden"
    confirmed = perform(two, act(two, "bea"), confirm, name="cleo")
    assert (confirmed.pending, confirmed.admitted_by) == (False, ("admin", "bea"))
    perform(two, act(two, "cleo"), list_tenants)
    assert intact(two)


@pytest.mark.parametrize("role", sorted(frozenset(Role) - DECIDING_ROLES))
def test_other_roles_take_one_admin(two: Dependencies, role: Role) -> None:
    assert not add(two, "admin", "cleo", role).pending
    assert intact(two)


def test_a_lone_admin_adds_deciders_alone(deps: Dependencies) -> None:
    assert not add(deps, "admin", "cleo", Role.APPROVER).pending
    assert intact(deps)


def test_disabling_the_other_admin_ends_nothing(two: Dependencies) -> None:
    """An admin who was disabled by somebody else goes on to count; who confirms then was admitted by two, or nobody does."""
    perform(two, act(two, "bea"), confirm, name="reviewer")
    perform(two, act(two, "admin"), disable, name="bea")
    assert add(two, "admin", "cleo", Role.ADMIN).pending
    assert refused(two, "bea", "cleo") == "identity_disabled"
    assert refused(two, "approver", "cleo") == "forbidden"  # admitted by the same admin alone
    assert not perform(two, act(two, "reviewer"), confirm, name="cleo").pending
    assert add(two, "admin", "dora", Role.APPROVER).pending
    assert refused(two, "reviewer", "dora") == "forbidden"  # there is another admin again
    assert intact(two)


def test_an_admin_who_leaves_by_themselves_counts_no_more(two: Dependencies) -> None:
    perform(two, act(two, "admin"), disable, name="admin")
    assert not add(two, "bea", "cleo", Role.OPERATOR).pending
    with pytest.raises(Conflict) as caught:
        perform(two, act(two, "bea"), disable, name="bea")
    assert caught.value.error_code == "conflict"
    assert intact(two)


def test_a_confirmation_is_of_these_roles_and_this_key(two: Dependencies) -> None:
    add(two, "admin", "cleo", Role.APPROVER)
    key = load_key(key_path(two, "acme", "bea"))
    for roles, public in (((Role.VIEWER,), public_key(load_key(key_path(two, "acme", "cleo")))), ((Role.APPROVER,), public_key(key))):
        signature = sign(key, "bea", "identity", digest_of(addition("acme", "cleo", roles, public)), two.clock.now())
        with pytest.raises(InvalidInput):
            perform(two, act(two, "bea"), confirm, name="cleo", signature=signature)
    with pytest.raises(Forbidden):
        perform(two, act(two, "cleo"), confirm, name="cleo")


def test_a_pending_identity_that_the_database_lets_in_is_named(two: Dependencies) -> None:
    """Without an event the row differs; with one that our own code would write, the replay tells that nobody confirmed it."""
    add(two, "admin", "cleo", Role.APPROVER)
    with two.ledger.work("acme") as work:
        work.identities.replace(work.identities.get("cleo").model_copy(update={"pending": False, "admitted_by": ("admin", "bea")}))
        work.events.append([Event(kind="rows.changed", tenant="acme", actor="x", subject="cleo", at=two.clock.now())])
    assert "record of acme: identity cleo: its roles, keys or state are not what was signed" in check_log(two).problems


def test_a_tampered_admin_confirms_nobody(two: Dependencies) -> None:
    add(two, "admin", "cleo", Role.APPROVER)
    with raw(two.workspace) as record:
        record.execute("UPDATE identities SET roles = '[\"admin\"]' WHERE name = 'viewer'")
    with pytest.raises(Corrupt):
        perform(two, act(two, "bea"), confirm, name="cleo")


def delete_rows(deps: Dependencies, *names: str, lookup: bool = False) -> None:
    """What somebody does who can write to the database alone; with ``lookup`` the copy for look-ups goes too."""
    with raw(deps.workspace) as record:
        for name in names:
            record.execute("DELETE FROM identities WHERE name = ?", [name])
            if lookup:
                record.execute("DELETE FROM anchored_rows WHERE scope = 'acme' AND name = ?", [f"identity/{name}"])


def add_decider(deps: Dependencies) -> None:
    add(deps, "admin", "eve", Role.APPROVER)


def add_own_admin(deps: Dependencies) -> None:
    """Where nobody is admin, whoever comes in signs for themselves."""
    path = key_path(deps, "acme", "eve")
    change = addition("acme", "eve", {Role.ADMIN}, create_key(path))
    enrol(deps, change, "eve", sign(load_key(path), "eve", "identity", digest_of(change), deps.clock.now()))


def confirm_as_lesser(deps: Dependencies) -> None:
    """Only where no other admin is there."""
    perform(deps, act(deps, "reviewer"), confirm, name="cleo")


@pytest.mark.parametrize("lookup", [False, True])
@pytest.mark.parametrize(
    ("gone", "way_in"),
    [
        (("bea",), add_decider),
        (("admin", "bea"), add_own_admin),
        (("bea",), confirm_as_lesser),
    ],
)
def test_a_row_that_is_deleted_changes_no_rule(two: Dependencies, gone: tuple[str, ...], way_in: Callable[..., None], lookup: bool) -> None:
    """Who is there follows from what the log anchors, and not from the rows that are left."""
    perform(two, act(two, "bea"), confirm, name="reviewer")
    add(two, "admin", "cleo", Role.OPERATOR)
    before = {person.name for person in initialise(two, "acme", {})}
    delete_rows(two, *gone, lookup=lookup)
    with pytest.raises(Corrupt) as caught:
        way_in(two)
    assert caught.value.error_code in (("anchors_corrupt",) if lookup else ("row_changed",))
    assert {person.name for person in initialise(two, "acme", {})} == before - set(gone)


def test_who_confirms_in_an_admins_place_was_admitted_by_two_admins() -> None:
    """Not by one, and somebody whom that one had let in."""

    def person(name: str, role: Role, *by: str) -> Identity:
        return Identity(tenant="acme", name=name, roles=frozenset({role}), public_key=name, created_at=NOW, admitted_by=by)

    lost = person("lost", Role.ADMIN, "admin").model_copy(update={"disabled_at": NOW, "disabled_by": "admin"})
    people = [
        person("admin", Role.ADMIN, "admin"),
        lost,
        person("first", Role.APPROVER, "admin", "lost"),
        person("second", Role.APPROVER, "admin", "first"),
        person("new", Role.OPERATOR, "admin"),
    ]
    assert refusal_to_confirm(people, people[4], people[2]) is None
    assert refusal_to_confirm(people, people[4], people[3]) == "second is no admin, nor in a deciding role by the signatures of two admins"
