"""The policy is one table, and every action stands in it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tailorbird.auth import ROLES_FOR, Action, authorise
from tailorbird.domain.errors import Forbidden
from tailorbird.domain.identity import Identity, Role

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def _person(*roles: Role, disabled: bool = False) -> Identity:
    return Identity(
        tenant="acme", name="ada", roles=frozenset(roles), public_key="A" * 43 + "=", created_at=NOW, disabled_at=NOW if disabled else None
    )


def test_every_action_has_an_entry_and_somebody_who_may() -> None:
    assert set(ROLES_FOR) == set(Action)
    assert all(ROLES_FOR.values())


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("role", Role)
def test_a_role_may_exactly_what_the_table_says(action: Action, role: Role) -> None:
    if role in ROLES_FOR[action]:
        authorise(_person(role), action)
        return
    with pytest.raises(Forbidden) as caught:
        authorise(_person(role), action)
    assert caught.value.error_code == "role_missing"
    assert all(may.value in caught.value.hint for may in ROLES_FOR[action])


def test_duties_are_separate() -> None:
    """Nobody with a single role can both make a release and let it through, or let it through and put it before users."""
    making, deciding, moving = ROLES_FOR[Action.ADAPT], ROLES_FOR[Action.APPROVE], ROLES_FOR[Action.PROMOTE]
    assert not making & deciding
    assert not deciding & moving
    assert not making & moving
    assert Role.ADMIN not in making | deciding | moving


def test_a_viewer_changes_nothing() -> None:
    reading = {
        Action.SHOW_RUN,
        Action.SHOW_RELEASE,
        Action.SHOW_IDENTITY,
        Action.EXPLAIN,
        Action.SHOW_TRAFFIC,
        Action.VERIFY_AUDIT,
        Action.SHOW_DATA,
        Action.SHOW_TENANT,
    }
    own = {Action.SESSION, Action.ROTATE_IDENTITY, Action.GIVE_FEEDBACK}
    assert {action for action in Action if Role.VIEWER in ROLES_FOR[action]} == reading | own


def test_one_of_several_roles_is_enough_and_a_disabled_identity_has_none() -> None:
    authorise(_person(Role.VIEWER, Role.OPERATOR), Action.PROMOTE)
    with pytest.raises(Forbidden) as caught:
        authorise(_person(*Role, disabled=True), Action.SHOW_RUN)
    assert caught.value.error_code == "identity_disabled"
