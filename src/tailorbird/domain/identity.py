"""Tenants with their quotas, identities, roles, credentials and data keys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from tailorbird.domain.endpoint import Endpoints, Places
from tailorbird.domain.feedback import TrafficPolicy
from tailorbird.domain.value import Digest, Name, Value

Period = Literal["minute", "month"]
#: The windows in which an API key's own limits hold.
KeyPeriod = Literal["minute", "day"]

_Count = Annotated[int, Field(ge=0, lt=2**53)]
_Money = Annotated[float, Field(ge=0, le=1e12)]


class Amounts(NamedTuple):
    """What is counted. ``money`` is in the currency of the settings' prices."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    money: float = 0.0

    def plus(self, other: Amounts) -> Amounts:
        """The sum."""
        return Amounts(
            self.requests + other.requests,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.money + other.money,
        )

    def minus(self, other: Amounts) -> Amounts:
        """The difference; money is not below zero by a rounding error."""
        money = self.money - other.money
        return Amounts(
            self.requests - other.requests,
            self.input_tokens - other.input_tokens,
            self.output_tokens - other.output_tokens,
            0.0 if -1e-9 < money < 0 else money,
        )


#: Nothing at all.
NOTHING = Amounts()


def _set_limits(limits: Value, names: Iterable[str], period: str) -> dict[str, float]:
    every = {name: getattr(limits, f"{name}_per_{period}") for name in names}
    return {name: limit for name, limit in every.items() if limit is not None}


class QuotaLimits(Value):
    """What a tenant may use in a minute and in a calendar month (UTC), and how many bytes it may have stored. None means as much as it
    likes."""

    requests_per_minute: _Count | None = None
    requests_per_month: _Count | None = None
    input_tokens_per_minute: _Count | None = None
    input_tokens_per_month: _Count | None = None
    output_tokens_per_minute: _Count | None = None
    output_tokens_per_month: _Count | None = None
    money_per_minute: _Money | None = None
    money_per_month: _Money | None = None
    storage_bytes: _Count | None = None

    def of(self, period: Period) -> dict[str, float]:
        """The limits of a period that are set, by what they limit."""
        return _set_limits(self, Amounts._fields, period)


class KeyLimits(Value):
    """What one API key may use in a minute and in a day (UTC), beside its tenant's limits. ``tokens`` are those read and those written."""

    requests_per_minute: _Count | None = None
    requests_per_day: _Count | None = None
    tokens_per_minute: _Count | None = None
    tokens_per_day: _Count | None = None

    def of(self, period: KeyPeriod) -> dict[str, float]:
        """The limits of a period that are set, by what they limit."""
        return _set_limits(self, ("requests", "tokens"), period)

    @property
    def is_set(self) -> bool:
        """True when anything is limited."""
        return any(value is not None for _, value in self)


class Storage(Value):
    """What a tenant's work has stored: artifacts, each counted once, and files of work under way."""

    artifacts: int = 0
    bytes: int = 0
    working_bytes: int = 0

    @property
    def all_bytes(self) -> int:
        """All that counts against the quota."""
        return self.bytes + self.working_bytes


class Usage(Value):
    """What one gateway counted for a tenant, or for an API key of it (``key``), in the window of a period that began at ``start``."""

    gateway: str
    key: str = ""
    period: Period | KeyPeriod
    start: datetime
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    money: float = 0.0


def window_start(period: Period | KeyPeriod, at: datetime) -> datetime:
    """When the window that holds ``at`` began: the minute, the day, or the first of the month, in UTC."""
    moment = at.astimezone(UTC).replace(second=0, microsecond=0)
    if period == "minute":
        return moment
    midnight = moment.replace(hour=0, minute=0)
    return midnight if period == "day" else midnight.replace(day=1)


def window_end(period: Period | KeyPeriod, start: datetime) -> datetime:
    """When the window that began at ``start`` ends."""
    if period == "minute":
        return start + timedelta(minutes=1)
    if period == "day":
        return start + timedelta(days=1)
    return (start + timedelta(days=32)).replace(day=1)


@dataclass(frozen=True)
class DataKey:
    """32 random bytes of one tenant. ``scope`` is random, too: it names the folder of what the key has encrypted, and tells nothing."""

    scope: str
    secret: bytes = field(repr=False)


class WrappedKey(Value):
    """``wrapped`` opens with the workspace's key alone; ``fingerprint`` is what the key within is known by. The row goes with the tenant,
    and what the key has encrypted is then noise."""

    tenant: Name
    scope: str
    wrapped: str
    fingerprint: str
    at: datetime


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
