"""Identities of every tenant as the signed events of the log lead to them.

An admin signs who is added and who is disabled; whoever rotates a key signs with the one before. While a tenant has no admin, who comes in
signs for themselves: the first admin is the root from which every later signature follows. What an earlier version wrote is taken as found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from tailorbird.auth.signing import holds
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.event import Event, LogEntry
from tailorbird.domain.identity import Identity, IdentityChange, Role, Rotation

_KINDS = ("identity.added", "identity.disabled", "identity.rotated", "identity.found", "tenant.removed")
#: Those that somebody signs.
_SIGNED = ("identity.added", "identity.disabled", "identity.rotated")


@dataclass(frozen=True)
class _Person:
    """What signatures say of an identity."""

    roles: frozenset[str]
    public_key: str
    former_keys: tuple[str, ...] = ()
    enabled: bool = True


class IdentityHistory:
    """Takes entries in order, and collects what is wrong with them in ``problems``."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._people: dict[str, dict[str, _Person]] = {}

    def take(self, entry: LogEntry) -> None:
        """Applies what an entry says of an identity."""
        event = entry.event
        if event.kind not in _KINDS or (event.kind in _SIGNED and f"identity/{event.subject}" not in event.rows):
            return  # of an earlier version, which anchored nothing: what it did is taken as found
        problem = self._apply(event)
        if problem:
            self.problems.append(f"entry {entry.index}: {event.kind} {event.tenant}/{event.subject}: {problem}")

    def differing(self, identity: Identity) -> str | None:
        """What is wrong with an identity of the record; None where it is as the signatures say."""
        person = self._people.get(identity.tenant, {}).get(identity.name)
        if person is None:
            return "nobody signed for it"
        found = _Person(
            frozenset(role.value for role in identity.roles), identity.public_key, identity.former_keys, identity.disabled_at is None
        )
        return None if found == person else "its roles, keys or state are not what was signed"

    def _apply(self, event: Event) -> str | None:
        people = self._people.setdefault(event.tenant, {})
        if event.kind == "tenant.removed":
            people.clear()
            return None
        if event.kind in ("identity.added", "identity.found"):
            return self._enter(event, people)
        person = people.get(event.subject)
        if person is None:
            return "there is no such identity"
        if event.kind == "identity.disabled":
            people[event.subject] = replace(person, enabled=False)
            return self._unsigned(event, IdentityChange(tenant=event.tenant, identity=event.subject, change="disable"))
        return _rotate(event, people, person)

    def _enter(self, event: Event, people: dict[str, _Person]) -> str | None:
        roles, key = str(event.data.get("roles", "")), str(event.data.get("public_key", ""))
        person = _Person(frozenset(filter(None, roles.split(","))), key)
        if event.kind == "identity.found":
            former = tuple(filter(None, str(event.data.get("former_keys", "")).split(",")))
            known = event.subject in people
            people[event.subject] = replace(person, former_keys=former, enabled=event.data.get("disabled") is not True)
            return "it was taken as found although it was known" if known else None
        problem = "the name is taken" if event.subject in people else None
        try:
            change = IdentityChange.model_validate(
                {"tenant": event.tenant, "identity": event.subject, "change": "add", "roles": sorted(person.roles), "public_key": key}
            )
        except ValueError:
            return "what was signed cannot be read"
        problem = problem or self._unsigned(event, change, own_key=key)
        people[event.subject] = person
        return problem

    def _unsigned(self, event: Event, change: IdentityChange, own_key: str = "") -> str | None:
        """What keeps a change from being an admin's; None where it is signed. ``own_key``: of who comes in."""
        signature, people = event.signature, self._people[event.tenant]
        has_admin = any(person.enabled and Role.ADMIN.value in person.roles for person in people.values())
        if signature is None:
            return None if not has_admin and own_key and "/" in event.actor else "no admin signed it"
        signer = people.get(signature.identity)
        if signer is not None and signer.enabled and Role.ADMIN.value in signer.roles:
            key = signer.public_key
        elif own_key and not has_admin and signature.identity == change.identity:
            key = own_key
        else:
            return f"{signature.identity}, who signed it, is no admin"
        return None if holds(signature, key, "identity", digest_of(change)) else "the signature does not hold"


def _rotate(event: Event, people: dict[str, _Person], person: _Person) -> str | None:
    key, leaked = str(event.data.get("public_key", "")), event.data.get("leaked") is True
    former = person.former_keys if leaked else (*person.former_keys, person.public_key)
    people[event.subject] = replace(person, public_key=key, former_keys=former)
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
