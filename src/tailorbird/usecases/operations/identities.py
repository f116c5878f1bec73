"""Operations on identities, API keys and the caller's own session."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tailorbird.auth import Action
from tailorbird.domain.identity import USUAL_SCOPES, ApiKey, Group, Identity, Role, Rotation, Scope, Signature
from tailorbird.domain.quota import KeyLimits
from tailorbird.domain.value import Name, Value
from tailorbird.usecases import identities as people
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.operations.operation import Nothing, Operation

PublicKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{43}=$", description="Raw Ed25519 public key in base64.")]


class IdentityList(Value):
    """The tenant's identities."""

    identities: tuple[Identity, ...]


class NewIdentity(Value):
    """Somebody to add. Their private key was made by whoever sends this, and is not sent."""

    name: Name
    roles: Annotated[frozenset[Role], Field(min_length=1)]
    public_key: PublicKey


class SignedRotation(Value):
    """The caller's next key, signed for by the present key and by itself. With ``leaked`` what the present one signed no longer counts."""

    rotation: Rotation
    present: Signature
    proof: Signature


class OneIdentity(Value):
    """Names an identity."""

    name: Name


class Keys(Value):
    """The tenant's API keys, without the hashes of their secrets."""

    keys: tuple[ApiKey, ...]


class NewKey(Value):
    """An API key to make; ``days`` until it expires, for ever without; ``scopes`` are what programs may do with it."""

    name: Name
    days: Annotated[int, Field(ge=1, le=3650)] | None = None
    scopes: Annotated[frozenset[Scope], Field(min_length=1)] = USUAL_SCOPES
    groups: Annotated[tuple[Group, ...], Field(max_length=100)] = ()
    limits: KeyLimits = KeyLimits()


class NewKeyLimits(Value):
    """The limits of an API key, in place of those it had."""

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
    limits: KeyLimits


class KeySecret(Value):
    """A key and its secret, which is told this once and kept nowhere."""

    key: ApiKey
    secret: str


class OneKey(Value):
    """Names an API key."""

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]


class RotateKey(Value):
    """An API key to replace; the old one goes on for ``grace_hours``."""

    id: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
    grace_hours: Annotated[float, Field(ge=0, le=720)] = 24.0


def _me(_parts: Dependencies, actor: Actor, _asked: Nothing) -> Identity:
    return actor.identity


def _list(deps: Dependencies, actor: Actor, _asked: Nothing) -> IdentityList:
    with deps.ledger.work(actor.tenant, write=False) as work:
        return IdentityList(identities=work.identities.all())


def _add(deps: Dependencies, actor: Actor, asked: NewIdentity) -> Identity:
    return people.enrol(deps, actor.tenant, asked.name, asked.roles, asked.public_key, actor.name)


def _disable(deps: Dependencies, actor: Actor, asked: OneIdentity) -> Identity:
    return people.disable(deps, actor, asked.name)


def _rotate_own(deps: Dependencies, actor: Actor, asked: SignedRotation) -> Identity:
    return people.rotate(deps, actor, asked.rotation, asked.present, asked.proof)


def _keys(deps: Dependencies, actor: Actor, _asked: Nothing) -> Keys:
    return Keys(keys=tuple(map(_shown, people.list_api_keys(deps, actor))))


def _create_key(deps: Dependencies, actor: Actor, asked: NewKey) -> KeySecret:
    grants = people.KeyGrants(scopes=asked.scopes, groups=frozenset(asked.groups), limits=asked.limits)
    key, secret = people.create_api_key(deps, actor, asked.name, asked.days, grants)
    return KeySecret(key=_shown(key), secret=secret)


def _limit_key(deps: Dependencies, actor: Actor, asked: NewKeyLimits) -> ApiKey:
    return _shown(people.limit_api_key(deps, actor, asked.id, asked.limits))


def _revoke_key(deps: Dependencies, actor: Actor, asked: OneKey) -> ApiKey:
    return _shown(people.revoke_api_key(deps, actor, asked.id))


def _rotate_key(deps: Dependencies, actor: Actor, asked: RotateKey) -> KeySecret:
    key, secret = people.rotate_api_key(deps, actor, asked.id, asked.grace_hours)
    return KeySecret(key=_shown(key), secret=secret)


def _shown(key: ApiKey) -> ApiKey:
    return key.model_copy(update={"secret_sha256": ""})


ME = Operation("session.show", "GET", "/api/session", Action.SESSION, Nothing, Identity, _me, "Who the caller is.")
LIST = Operation("identity.list", "GET", "/api/identities", Action.SHOW_IDENTITY, Nothing, IdentityList, _list, "List identities.")
ADD = Operation(
    "identity.add", "POST", "/api/identities", Action.ADD_IDENTITY, NewIdentity, Identity, _add, "Add an identity by its public key."
)
DISABLE = Operation(
    "identity.disable",
    "POST",
    "/api/identities/{name}/disable",
    Action.DISABLE_IDENTITY,
    OneIdentity,
    Identity,
    _disable,
    "Disable an identity; what it signed stays.",
)
ROTATE = Operation(
    "identity.rotate",
    "POST",
    "/api/session/key",
    Action.ROTATE_IDENTITY,
    SignedRotation,
    Identity,
    _rotate_own,
    "Replace the caller's own key.",
)
KEYS = Operation("key.list", "GET", "/api/keys", Action.LIST_KEYS, Nothing, Keys, _keys, "List API keys.")
CREATE_KEY = Operation("key.create", "POST", "/api/keys", Action.CREATE_KEY, NewKey, KeySecret, _create_key, "Make an API key.")
LIMIT_KEY = Operation(
    "key.limit", "POST", "/api/keys/{id}/limits", Action.LIMIT_KEY, NewKeyLimits, ApiKey, _limit_key, "Set the limits of an API key."
)
REVOKE_KEY = Operation("key.revoke", "POST", "/api/keys/{id}/revoke", Action.REVOKE_KEY, OneKey, ApiKey, _revoke_key, "Revoke an API key.")
ROTATE_KEY = Operation(
    "key.rotate", "POST", "/api/keys/{id}/rotate", Action.ROTATE_KEY, RotateKey, KeySecret, _rotate_key, "Replace an API key."
)
