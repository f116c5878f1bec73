"""Workspaces, tenants, identities and API keys: how people and programs come in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

from pydantic import Field

from tailorbird import auth
from tailorbird.auth import Action
from tailorbird.crypto.canonical_json import digest_of, plain_json
from tailorbird.domain.errors import Conflict, Forbidden, InvalidInput, NotFound
from tailorbird.domain.event import Event
from tailorbird.domain.identity import (
    USUAL_SCOPES,
    ApiKey,
    Group,
    Identity,
    IdentityChange,
    KeyLimits,
    Role,
    Rotation,
    Scope,
    Signature,
    Tenant,
)
from tailorbird.domain.value import Digest, Name, Value
from tailorbird.ledger import UnitOfWork
from tailorbird.usecases.anchored_rows import anchored_identities, demand_anchored
from tailorbird.usecases.audit_events import Facts, record
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.registry import PublicKey, usecase
from tailorbird.usecases.snapshots import PROVENANCE

Roles = Annotated[frozenset[Role], Field(min_length=1)]
KeyId = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
#: Who ``init`` makes, one person a role, and ``admin`` for the tenant itself.
FIRST_PEOPLE: dict[str, frozenset[Role]] = {role.value: frozenset({role}) for role in Role}


def initialise(deps: Dependencies, tenant: str, people: dict[str, frozenset[Role]]) -> tuple[Identity, ...]:
    """Makes a tenant with its first identities, each with a key file of its own. Doing it again adds who is missing."""
    now = deps.clock.now()
    with deps.ledger.system() as system:
        if tenant not in system.tenants.all():
            system.tenants.add(Tenant(name=tenant, created_at=now))
            system.events.append([Event(kind="tenant.created", tenant=tenant, actor="init", subject=tenant, at=now)])
    with deps.ledger.work(tenant) as work:
        # Snapshots are sealed with it: made now, a story that is killed before its first step ends is told again with the same one.
        work.secrets.get(PROVENANCE)
        known = {person.name: person for person in work.identities.all()}
    for name, roles in _in_order(people, has_admin=any(person.holds(Role.ADMIN) for person in known.values())):
        if name not in known:
            _enrol(deps, tenant, name, roles)
    with deps.ledger.work(tenant, write=False) as work:
        return work.identities.all()


def _in_order(people: Mapping[str, frozenset[Role]], *, has_admin: bool) -> list[tuple[str, frozenset[Role]]]:
    """The admin who signs for the others first, other admins last: with the second one, dual control begins."""
    root = None if has_admin else next((name for name, roles in people.items() if Role.ADMIN in roles), None)
    return sorted(people.items(), key=lambda person: (person[0] != root, Role.ADMIN in person[1]))


def enrol(deps: Dependencies, change: IdentityChange, by: str, signature: Signature) -> Identity:
    """Adds an identity that holds the private half of the public key in ``change``, which is signed. It is pending where it gets a deciding
    role in a tenant under dual control.

    Raises Conflict (name taken), InvalidInput (neither an admin signed it nor, in a tenant without one, who comes in).
    """
    auth.check_public_key(change.public_key)
    now = deps.clock.now()
    with deps.ledger.work(change.tenant) as work:
        people = anchored_identities(work)
        _refuse_known_key(people, change.public_key)
        require_change_signed(people, change, signature)
        return add_person(work, change, by, now, signature, people)


def addition(tenant: str, name: str, roles: Iterable[Role], public_key: str) -> IdentityChange:
    """What an admin signs to add an identity."""
    return IdentityChange(tenant=tenant, identity=name, change="add", roles=tuple(sorted(roles)), public_key=public_key)


def add_person(
    work: UnitOfWork, change: IdentityChange, by: str, now: datetime, signature: Signature | None, people: Sequence[Identity]
) -> Identity:
    """Writes an identity and the event that tells who admitted it, or who proposes it. ``people``: the tenant's, as anchored."""
    identity = Identity(
        tenant=change.tenant,
        name=change.identity,
        roles=frozenset(change.roles),
        public_key=change.public_key,
        created_at=now,
        admitted_by=(signature.identity,) if signature else (),
    )
    dual = auth.is_dual_control(people)
    identity = identity.model_copy(update={"pending": dual and identity.decides})
    work.identities.add(identity)
    facts: Facts = {"roles": ",".join(change.roles), "public_key": change.public_key, "dual_control": dual}
    kind = "identity.proposed" if identity.pending else "identity.added"
    _record_signed(work, kind, by, change.identity, now, (facts, signature))
    return identity


def require_change_signed(people: Iterable[Identity], change: IdentityChange, signature: Signature) -> None:
    """Returns when an admin among the tenant's ``people`` signed the change; in a tenant without admins, whoever comes in may have.

    Raises InvalidInput.
    """
    known = {person.name: person for person in people}
    signer = known.get(signature.identity)
    if not any(person.holds(Role.ADMIN) for person in known.values()) and signature.identity == change.identity:
        signer = Identity(
            tenant=change.tenant,
            name=change.identity,
            roles=frozenset({Role.ADMIN}),
            public_key=change.public_key,
            created_at=signature.at,
        )
    if signer is None or not signer.holds(Role.ADMIN):
        raise InvalidInput(
            f"{signature.identity} is no admin of {change.tenant}", "let an admin sign who comes in and who goes", code="signature_invalid"
        )
    auth.verify_sent(signature, identity=signer, purpose="identity", digest=digest_of(change))


class IdentityList(Value):
    """The tenant's identities."""

    identities: tuple[Identity, ...]


@usecase("identity.list", "GET", "/api/identities", Action.SHOW_IDENTITY)
def list_identities(deps: Dependencies, actor: Actor) -> IdentityList:
    """List identities."""
    with deps.ledger.work(actor.tenant, write=False) as work:
        return IdentityList(identities=work.identities.all())


@usecase("identity.add", "POST", "/api/identities", Action.ADD_IDENTITY)
def add_identity(
    deps: Dependencies, actor: Actor, name: Name, roles: Roles, public_key: PublicKey, signature: Signature | None = None
) -> Identity:
    """Add an identity by its public key.

    In a tenant with two admins, one with a deciding role (approver, reviewer, operator, admin) is pending until another admin confirms it.
    The private key was made by whoever asks, and is not sent. The caller signs, for the purpose ``identity``, the digest of tenant,
    identity, change (``add``), roles in order and public key; a session alone lets nobody in. Raises Conflict (name taken, no signature),
    InvalidInput (the signature does not hold).
    """
    auth.check_public_key(public_key)
    change = addition(actor.tenant, name, roles, public_key)
    return enrol(deps, change, actor.name, _signed_by(actor, change, signature))


@usecase("identity.confirm", "POST", "/api/identities/{name}/confirm", Action.CONFIRM_IDENTITY)
def confirm(deps: Dependencies, actor: Actor, name: Name, signature: Signature | None = None) -> Identity:
    """Confirm an identity as second admin.

    A pending one may act from then on; one that a single admin admitted has two signatures then. The caller signs what the first admin
    signed (see ``identity.add``), with the roles and the public key as they stand. Where no other admin is left, somebody with a deciding
    role can confirm whom two admins have admitted. Raises NotFound, Forbidden (the same admin, or none), Conflict
    (disabled, no signature), InvalidInput (the signature does not hold).
    """
    now = deps.clock.now()
    with deps.ledger.work(actor.tenant) as work:
        people = anchored_identities(work)
        identity, second = _named(people, actor.tenant, name), _named(people, actor.tenant, actor.name)
        if identity.disabled_at is not None:
            raise Conflict(f"{name} is disabled", "add a new identity under another name", code="identity_disabled")
        refusal = auth.refusal_to_confirm(people, identity, second)
        if refusal:
            hint = f"ask an admin who has not signed for {name}, see: tailorbird identity list"
            raise Forbidden(refusal, hint)
        change = addition(actor.tenant, name, identity.roles, identity.public_key)
        signed = _signed_by(actor, change, signature)
        auth.verify_sent(signed, identity=second, purpose="identity", digest=digest_of(change))
        confirmed = identity.model_copy(update={"admitted_by": (*identity.admitted_by, second.name), "pending": False})
        work.identities.replace(confirmed)
        facts: Facts = {"roles": ",".join(change.roles), "dual_control": auth.is_dual_control(people)}
        _record_signed(work, "identity.confirmed", actor.name, name, now, (facts, signed))
    return confirmed


@usecase("identity.disable", "POST", "/api/identities/{name}/disable", Action.DISABLE_IDENTITY)
def disable(deps: Dependencies, actor: Actor, name: Name, signature: Signature | None = None) -> Identity:
    """Disable an identity; what it signed stays.

    It can do nothing any more. The caller signs, for the purpose ``identity``, the digest of tenant, identity and change (``disable``).
    An admin who leaves disables themselves, while there is another. One whom another admin disabled goes on to count as an admin in the
    rule that deciding roles take two. Raises NotFound, Conflict (the last admin, no signature), InvalidInput (the signature does not hold).
    """
    now = deps.clock.now()
    change = IdentityChange(tenant=actor.tenant, identity=name, change="disable")
    with deps.ledger.work(actor.tenant) as work:
        people = anchored_identities(work)
        identity = _named(people, actor.tenant, name)
        if name == actor.name and not any(person.holds(Role.ADMIN) for person in people if person.name != name):
            raise Conflict("the last admin does not disable themselves", "add another admin first")
        signed = _signed_by(actor, change, signature)
        require_change_signed(people, change, signed)
        disabled = identity
        if identity.disabled_at is None:
            disabled = identity.model_copy(update={"disabled_at": now, "disabled_by": actor.name})
        work.identities.replace(disabled)
        work.sessions.end_all(name, now)
        facts: Facts = {"dual_control": auth.is_dual_control(people)}
        _record_signed(work, "identity.disabled", actor.name, name, now, (facts, signed))
    return disabled


@usecase("identity.rotate", "POST", "/api/session/key", Action.ROTATE_IDENTITY)
def rotate(deps: Dependencies, actor: Actor, rotation: Rotation, present: Signature, proof: Signature) -> Identity:
    """Replace the caller's own key.

    That ends their sessions. What the present key signed goes on to count, unless it leaked. Both keys sign: a session alone changes no
    key. Raises InvalidInput (a signature does not hold), Conflict (somebody else's key or name).
    """
    now = deps.clock.now()
    with deps.ledger.work(actor.tenant) as work:
        people = anchored_identities(work)
        identity = _named(people, actor.tenant, actor.name)
        if (rotation.tenant, rotation.identity) != (actor.tenant, actor.name):
            raise Conflict("the rotation is of somebody else", "rotate your own key")
        auth.check_public_key(rotation.public_key)
        for public_key, made in ((identity.public_key, present), (rotation.public_key, proof)):
            holder = identity.model_copy(update={"public_key": public_key})
            auth.verify_sent(made, identity=holder, purpose="rotate", digest=digest_of(rotation))
        _refuse_known_key(people, rotation.public_key)
        former = identity.former_keys if rotation.leaked else (*identity.former_keys, identity.public_key)
        rotated = identity.model_copy(update={"public_key": rotation.public_key, "former_keys": former})
        work.identities.replace(rotated)
        work.sessions.end_all(actor.name, now)
        facts: Facts = {"leaked": rotation.leaked, "public_key": rotation.public_key}
        _record_signed(work, "identity.rotated", actor.name, actor.name, now, (facts, present))
    return rotated


def _named(people: Iterable[Identity], tenant: str, name: str) -> Identity:
    """One of the identities that were found to be as they are anchored. Raises NotFound."""
    for person in people:
        if person.name == name:
            return person
    raise NotFound(f"no identity {name} in {tenant}", "list them with: tailorbird identity list", code="identity_missing")


def _signed_by(actor: Actor, change: IdentityChange, signature: Signature | None) -> Signature:
    """The signature that was sent, or one made here where the actor's key is. Raises Conflict, InvalidInput."""
    if signature is not None:
        if signature.identity != actor.name:
            raise InvalidInput("the change is signed by somebody else", "sign it yourself", code="signature_invalid")
        return signature
    try:
        return actor.sign("identity", digest_of(change))
    except Forbidden:
        raise Conflict(
            "who comes in and who goes is signed by an admin's key, and there is no signature",
            "use tailorbird identity with --server, which signs with the key on your machine",
            code="signature_missing",
        ) from None


def _record_signed(work: UnitOfWork, kind: str, by: str, subject: str, now: datetime, said: tuple[Facts, Signature | None]) -> None:
    facts, signature = said
    work.events.append([Event(kind=kind, tenant=work.tenant, actor=by, subject=subject, at=now, data=facts, signature=signature)])


def key_path(deps: Dependencies, tenant: str, name: str) -> Path:
    """Where an identity's private key lies by default."""
    return deps.workspace / "keys" / tenant / f"{name}.key"


def known_identity(deps: Dependencies, tenant: str, name: str) -> Identity:
    """The identity ``name`` as the log anchors it, unproven. Raises NotFound, Corrupt."""
    with deps.ledger.work(tenant, write=False) as work:
        identity = work.identities.get(name)
        demand_anchored(work, identity)
    return identity


def act_as(deps: Dependencies, tenant: str, name: str, key_file: Path | None = None) -> Actor:
    """The identity ``name``, proven by its own private key. Raises NotFound, or Forbidden when the key is somebody else's."""
    identity = known_identity(deps, tenant, name)
    key = auth.load_key(key_file or key_path(deps, tenant, name))
    auth.check_key(key, identity)

    def sign(purpose: str, digest: Digest) -> Signature:
        return auth.sign(key, name, purpose, digest, deps.clock.now())

    return Actor(identity, sign)


class NewKey(Value):
    """An API key to make; ``days`` until it expires, for ever without; ``scopes`` are what programs may do with it, ``groups`` whose
    documents they may be shown, ``limits`` how much they may use beside the limits of the tenant."""

    name: Name
    days: Annotated[int, Field(ge=1, le=3650)] | None = None
    scopes: Annotated[frozenset[Scope], Field(min_length=1)] = USUAL_SCOPES
    groups: Annotated[tuple[Group, ...], Field(max_length=100)] = ()
    limits: KeyLimits = KeyLimits()


class KeyList(Value):
    """The tenant's API keys, without the hashes of their secrets."""

    keys: tuple[ApiKey, ...]


class KeySecret(Value):
    """A key and its secret, which is told this once and kept nowhere."""

    key: ApiKey
    secret: str


@usecase("key.list", "GET", "/api/keys", Action.LIST_KEYS)
def list_api_keys(deps: Dependencies, actor: Actor) -> KeyList:
    """List API keys.

    Revoked ones too.
    """
    with deps.ledger.work(actor.tenant, write=False) as work:
        return KeyList(keys=tuple(map(_shown, work.keys.all())))


@usecase("key.create", "POST", "/api/keys", Action.CREATE_KEY)
def create_api_key(deps: Dependencies, actor: Actor, new: NewKey) -> KeySecret:
    """Make an API key."""
    now = deps.clock.now()
    ends = now + timedelta(days=new.days) if new.days else None
    bare, secret = auth.issue_api_key(actor.tenant, new.name, now, ends, new.scopes, frozenset(new.groups))
    key = bare.model_copy(update={"limits": new.limits})
    facts: Facts = {"name": new.name, "scopes": ",".join(sorted(key.scopes)), "groups": len(key.groups)}
    with deps.ledger.work(actor.tenant) as work:
        work.keys.add(key)
        record(work, "key.created", actor.name, key.id, now, facts | _set(key.limits))
    return KeySecret(key=_shown(key), secret=secret)


@usecase("key.limit", "POST", "/api/keys/{id}/limits", Action.LIMIT_KEY)
def limit_api_key(deps: Dependencies, actor: Actor, id: KeyId, limits: KeyLimits) -> ApiKey:
    """Set the limits of an API key.

    In place of those it had. Gateways know within a second. Raises NotFound.
    """
    with deps.ledger.work(actor.tenant) as work:
        key = work.keys.limit(id, limits)
        facts: Facts = {"name": key.name}
        record(work, "key.limited", actor.name, key.id, deps.clock.now(), facts | _set(limits))
    return _shown(key)


def _set(limits: KeyLimits) -> Facts:
    return {name: value for name, value in plain_json(limits).items() if value is not None}


@usecase("key.revoke", "POST", "/api/keys/{id}/revoke", Action.REVOKE_KEY)
def revoke_api_key(deps: Dependencies, actor: Actor, id: KeyId) -> ApiKey:
    """Revoke an API key.

    Gateways refuse it within a second.
    """
    now = deps.clock.now()
    with deps.ledger.work(actor.tenant) as work:
        key = work.keys.revoke(id, now)
        record(work, "key.revoked", actor.name, key.id, now, {"name": key.name})
    return _shown(key)


@usecase("key.rotate", "POST", "/api/keys/{id}/rotate", Action.ROTATE_KEY)
def rotate_api_key(deps: Dependencies, actor: Actor, id: KeyId, grace_hours: Annotated[float, Field(ge=0, le=720)] = 24.0) -> KeySecret:
    """Replace an API key.

    The new one has the same name and term; the old one ends after ``grace_hours``. Raises NotFound, Conflict (the old one has ended).
    """
    now = deps.clock.now()
    with deps.ledger.work(actor.tenant) as work:
        old = next((key for key in work.keys.all() if key.id == id), None)
        if old is None or not old.is_valid(now):
            raise Conflict(f"no valid key {id} to replace", "list them with: tailorbird key list")
        term = old.expires_at - old.created_at if old.expires_at else None
        key, secret = auth.issue_api_key(actor.tenant, old.name, now, now + term if term else None, old.scopes, old.groups)
        key = key.model_copy(update={"limits": old.limits})
        work.keys.add(key)
        work.keys.expire(old.id, now + timedelta(hours=grace_hours))
        record(work, "key.rotated", actor.name, old.id, now, {"name": old.name, "by": key.id})
    return KeySecret(key=_shown(key), secret=secret)


def _shown(key: ApiKey) -> ApiKey:
    """Without the hash of its secret."""
    return key.model_copy(update={"secret_sha256": ""})


def _refuse_known_key(people: Iterable[Identity], public_key: str) -> None:
    """One key is one person: with two names it could approve what it made. Raises Conflict."""
    if any(public_key in (known.public_key, *known.former_keys) for known in people):
        raise Conflict("this key is, or was, somebody's in this tenant", "make a new key")


def _enrol(deps: Dependencies, tenant: str, name: str, roles: frozenset[Role]) -> Identity:
    """With a key made here; a key file that is there already belongs to nobody yet, and was left by an enrolment that was cut off.

    An admin signs whose key is here; in a tenant without admins who comes in does. Raises Forbidden where there are admins and no key.
    """
    path = key_path(deps, tenant, name)
    public = auth.public_key(auth.load_key(path)) if path.exists() else auth.create_key(path)
    change = addition(tenant, name, roles, public)
    with deps.ledger.work(tenant, write=False) as work:
        admins = [person for person in work.identities.all() if person.holds(Role.ADMIN)]
    signers = [(admin.name, key_path(deps, tenant, admin.name)) for admin in admins] or [(name, path)]
    for signer, file in signers:
        if file.exists():
            signature = auth.sign(auth.load_key(file), signer, "identity", digest_of(change), deps.clock.now())
            return enrol(deps, change, "init", signature)
    raise Forbidden(
        f"{name} is not added to {tenant}: no admin's key is here to sign it",
        f"let an admin run: tailorbird identity add {name} --role {sorted(roles)[0]}",
    )
