"""Tenants, identities, roles and credentials."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from tailorbird.domain.allowed_places import Places
from tailorbird.domain.endpoint import Endpoints
from tailorbird.domain.feedback import TrafficPolicy
from tailorbird.domain.quota import KeyLimits, QuotaLimits
from tailorbird.domain.value import Digest, Name, Value


class Role(StrEnum):
    """What an identity may be asked to do; one identity may hold several. A data author sends data, and at the high tier decides on nothing
    that was learned from them."""

    AUTHOR = "author"
    DATA_AUTHOR = "data-author"
    APPROVER = "approver"
    REVIEWER = "reviewer"
    OPERATOR = "operator"
    VIEWER = "viewer"
    ADMIN = "admin"
    WORKER = "worker"


#: Roles that decide on releases, on production or on people: giving one takes a second admin, where the tenant has one.
DECIDING_ROLES = frozenset({Role.APPROVER, Role.REVIEWER, Role.OPERATOR, Role.ADMIN})


class Tenant(Value):
    """One organisation or team; what is its is invisible to the others. While it is suspended, its programs are answered nothing.

    ``places`` are where what it submits may be read from; without any, nothing at an address is read for it. ``endpoints`` are the hosted
    models that it may ask; which of them its data may be sent to, its own ``policy`` says.
    """

    name: Name
    created_at: datetime
    suspended_at: datetime | None = None
    limits: QuotaLimits = QuotaLimits()
    policy: TrafficPolicy = TrafficPolicy()
    places: Places = ()
    endpoints: Endpoints = ()


class Identity(Value):
    """Somebody (or some service) with a credential of their own.

    ``public_key`` is the raw Ed25519 public key in standard base64 (44 characters). ``former_keys`` are keys it was rotated away from:
    what they signed still counts, and nothing new can be signed with them. A key that leaked is struck from both.

    ``admitted_by`` are the admins who signed for it, in order; empty where a host admitted it. A ``pending`` one may
    do nothing until a second admin has signed. ``disabled_by`` is who signed for disabling it.
    """

    tenant: Name
    name: Name
    roles: frozenset[Role]
    public_key: str
    created_at: datetime
    disabled_at: datetime | None = None
    former_keys: tuple[str, ...] = ()
    admitted_by: tuple[Name, ...] = ()
    pending: bool = False
    disabled_by: Name | None = None

    @property
    def enabled(self) -> bool:
        """True when the identity may act: neither disabled nor pending."""
        return self.disabled_at is None and not self.pending

    @property
    def decides(self) -> bool:
        """True when one of its roles is a deciding one."""
        return bool(self.roles & DECIDING_ROLES)

    def holds(self, role: Role) -> bool:
        """True when the identity is enabled and holds ``role``."""
        return self.enabled and role in self.roles


class Signature(Value):
    """An Ed25519 signature by an identity over ``purpose`` and ``digest``.

    The signed bytes are ``tailorbird/<purpose>/v1\\n<digest>\\n`` in UTF-8 (see ``auth/signing.py``), so that a
    signature made for one purpose proves nothing for another.
    """

    identity: Name
    public_key: str
    purpose: str
    digest: Digest
    signature: str
    at: datetime


class Scope(StrEnum):
    """What a program may do with a key: ask models, say what became of an answer, ask what is only staged."""

    ANSWER = "answer"
    FEEDBACK = "feedback"
    STAGING = "staging"


#: What a key may do unless it is said otherwise.
USUAL_SCOPES = frozenset({Scope.ANSWER, Scope.FEEDBACK})


#: A group of people, as access lists of documents name it.
Group = Annotated[str, Field(min_length=1, max_length=100)]


class ApiKey(Value):
    """A key with which a tenant's programs call ``/v1`` and give feedback. Only the SHA-256 of the secret is kept.

    Whoever asks with it may read the documents of its ``groups``, and those that everybody may. ``limits`` hold beside the tenant's.
    """

    id: str
    tenant: Name
    name: Name
    secret_sha256: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    scopes: frozenset[Scope] = USUAL_SCOPES
    groups: frozenset[Group] = frozenset()
    limits: KeyLimits = KeyLimits()

    def is_valid(self, now: datetime) -> bool:
        """True when neither revoked nor expired at ``now``."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class Login(Value):
    """What an identity signs (purpose ``login``) to open a session. ``nonce`` is used once, so that a login cannot be played again;
    ``server`` is the origin of the server it is meant for (``https://host:port``), so that another cannot pass it on."""

    tenant: Name
    identity: Name
    server: Annotated[str, Field(max_length=300)]
    nonce: str
    at: datetime


class Rotation(Value):
    """What an identity signs (purpose ``rotate``) with its present key and with the next one, so that neither alone can change it."""

    tenant: Name
    identity: Name
    public_key: str
    leaked: bool


class IdentityChange(Value):
    """What an admin signs (purpose ``identity``) to add or disable an identity, so that the log proves who let whom in, as what. A second
    admin who confirms signs the same addition."""

    tenant: Name
    identity: Name
    change: Literal["add", "disable"]
    roles: tuple[Role, ...] = ()
    public_key: str = ""


class Session(Value):
    """A proven identity at the control API or the console, until ``expires_at``. Only the SHA-256 of its secret is kept; ``id`` is the
    nonce of the login."""

    id: str
    tenant: Name
    identity: Name
    secret_sha256: str
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None = None

    def is_valid(self, now: datetime) -> bool:
        """True when neither ended nor expired at ``now``."""
        return self.ended_at is None and now < self.expires_at
