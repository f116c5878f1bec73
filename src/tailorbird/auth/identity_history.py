"""Identities of every tenant as the signed events of the log lead to them.

An admin signs who is added and who is disabled; whoever rotates a key signs with the one before. While a tenant has no admin, who comes in
signs for themselves: the first admin is the root from which every later signature follows.

Under dual control two admins sign who gets a deciding role: the first proposes, the second confirms.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import datetime

from pydantic import ValidationError

from tailorbird.auth.signing import holds
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.event import Event, LogEntry
from tailorbird.domain.identity import Identity, IdentityChange, Role, Rotation


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


#: Those that somebody signs.
_SIGNED = ("identity.added", "identity.proposed", "identity.confirmed", "identity.disabled", "identity.rotated")
_KINDS = (*_SIGNED, "tenant.removed")


class IdentityHistory:
    """Takes entries in order, and collects what is wrong with them in ``problems``."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._people: dict[str, dict[str, Identity]] = {}

    def take(self, entry: LogEntry) -> None:
        """Applies what an entry says of an identity."""
        event = entry.event
        if event.kind not in _KINDS:
            return
        problem = self._apply(event)
        if problem:
            self.problems.append(f"entry {entry.index}: {event.kind} {event.tenant}/{event.subject}: {problem}")

    def differing(self, identity: Identity) -> str | None:
        """What is wrong with an identity of the record; None where it is as the signatures say."""
        person = self._people.get(identity.tenant, {}).get(identity.name)
        if person is None:
            return "nobody signed for it"
        return None if _signed_part(identity) == _signed_part(person) else "its roles, keys or state are not what was signed"

    def _apply(self, event: Event) -> str | None:
        people = self._people.setdefault(event.tenant, {})
        if event.kind == "tenant.removed":
            people.clear()
            return None
        if event.kind in ("identity.added", "identity.proposed"):
            return self._enter(event, people)
        person = people.get(event.subject)
        if person is None:
            return "there is no such identity"
        if event.kind == "identity.disabled":
            problem = self._unsigned(event, IdentityChange(tenant=event.tenant, identity=event.subject, change="disable"))
            if person.disabled_at is None:
                by = event.signature.identity if event.signature else None
                people[event.subject] = person.model_copy(update={"disabled_at": event.at, "disabled_by": by})
            return problem
        if event.kind == "identity.confirmed":
            return _confirm(event, people, person)
        return _rotate(event, people, person)

    def _enter(self, event: Event, people: dict[str, Identity]) -> str | None:
        roles, key = str(event.data.get("roles", "")), str(event.data.get("public_key", ""))
        try:
            named = frozenset(map(Role, filter(None, roles.split(","))))
            person = Identity(tenant=event.tenant, name=event.subject, roles=named, public_key=key, created_at=event.at)
        except (ValidationError, ValueError):
            return "what was signed cannot be read"
        problem = "the name is taken" if event.subject in people else None
        problem = problem or self._unsigned(event, _addition(person), own_key=key) or self._alone(event, person)
        by = (event.signature.identity,) if event.signature else ()
        people[event.subject] = person.model_copy(update={"admitted_by": by, "pending": event.kind == "identity.proposed"})
        return problem

    def _alone(self, event: Event, person: Identity) -> str | None:
        """Tells of a deciding role that one admin gave although there were two."""
        if event.kind == "identity.added" and person.decides and is_dual_control(self._people[event.tenant].values()):
            return "it gives a deciding role, and no second admin confirmed it"
        return None

    def _unsigned(self, event: Event, change: IdentityChange, own_key: str = "") -> str | None:
        """What keeps a change from being an admin's; None where it is signed. ``own_key``: of who comes in."""
        signature, people = event.signature, self._people[event.tenant]
        has_admin = any(person.holds(Role.ADMIN) for person in people.values())
        if signature is None:
            return None if not has_admin and own_key and "/" in event.actor else "no admin signed it"
        signer = people.get(signature.identity)
        if signer is not None and signer.holds(Role.ADMIN):
            key = signer.public_key
        elif own_key and not has_admin and signature.identity == change.identity:
            key = own_key
        else:
            return f"{signature.identity}, who signed it, is no admin"
        return None if holds(signature, key, "identity", digest_of(change)) else "the signature does not hold"


def _signed_part(identity: Identity) -> Identity:
    """An identity without the times, which no signature covers."""
    disabled = None if identity.disabled_at is None else _NO_TIME
    return identity.model_copy(update={"created_at": _NO_TIME, "disabled_at": disabled})


_NO_TIME = datetime.min


def _addition(person: Identity) -> IdentityChange:
    """What an admin signs to admit ``person``."""
    roles = tuple(sorted(person.roles))
    return IdentityChange(tenant=person.tenant, identity=person.name, change="add", roles=roles, public_key=person.public_key)


def _confirm(event: Event, people: dict[str, Identity], person: Identity) -> str | None:
    """Applies a second signature."""
    signature = event.signature
    second = people.get(signature.identity) if signature else None
    if signature is None or second is None:
        return "nobody of the tenant signed it"
    people[event.subject] = person.model_copy(update={"admitted_by": (*person.admitted_by, second.name), "pending": False})
    problem = "it was disabled before" if person.disabled_at else refusal_to_confirm(people.values(), person, second)
    signed = holds(signature, second.public_key, "identity", digest_of(_addition(person)))
    return problem or (None if signed else "the signature does not hold")


def _rotate(event: Event, people: dict[str, Identity], person: Identity) -> str | None:
    key, leaked = str(event.data.get("public_key", "")), event.data.get("leaked") is True
    former = person.former_keys if leaked else (*person.former_keys, person.public_key)
    people[event.subject] = person.model_copy(update={"public_key": key, "former_keys": former})
    if person.pending:
        return "it was pending"
    rotation = Rotation(tenant=event.tenant, identity=event.subject, public_key=key, leaked=leaked)
    if event.signature is None:
        return "the key before did not sign it"
    signed = event.signature.identity == event.subject and holds(event.signature, person.public_key, "rotate", digest_of(rotation))
    return None if signed else "the signature does not hold"


def identity_problems(history: IdentityHistory, identities: Iterable[Identity]) -> Iterator[str]:
    """What is wrong with identities of the record."""
    for identity in identities:
        problem = history.differing(identity)
        if problem:
            yield f"record of {identity.tenant}: identity {identity.name}: {problem}"
