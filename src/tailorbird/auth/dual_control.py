"""Dual control: when a deciding role takes a second admin, and who may be the second.

A tenant is under dual control while it has two admins. One who was disabled by somebody else still counts, so that no admin becomes the
only one by disabling the other; one who disabled themselves does not. A pending admin does not count yet.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tailorbird.domain.identity import Identity, Role


def is_dual_control(people: Iterable[Identity]) -> bool:
    """True when deciding roles take a second admin in the tenant whose identities these are."""
    return sum(map(_counts, people)) >= 2


def refusal_to_confirm(people: Collection[Identity], subject: Identity, second: Identity) -> str | None:
    """Why ``second`` cannot be the second who signs for ``subject``; None where they can.

    Where no other admin is left, whoever holds a deciding role can, if two admins have admitted them.
    """
    if not second.enabled:
        return f"{second.name} is disabled or pending"
    if second.name == subject.name or second.public_key in (subject.public_key, *subject.former_keys):
        return "nobody confirms themselves"
    if second.name in subject.admitted_by:
        return f"{second.name} has signed for {subject.name} already"
    if second.holds(Role.ADMIN):
        return None
    others = [person.name for person in people if person.holds(Role.ADMIN) and person.name not in (subject.name, *subject.admitted_by)]
    if others:
        return f"{second.name} is no admin, and {others[0]} is one"
    admins = {person.name for person in people if Role.ADMIN in person.roles}
    if not second.decides or len(admins.intersection(second.admitted_by)) < 2:
        return f"{second.name} is no admin, nor in a deciding role by the signatures of two admins"
    return None


def _counts(person: Identity) -> bool:
    if Role.ADMIN not in person.roles or person.pending:
        return False
    return person.disabled_at is None or person.disabled_by not in (None, person.name)
