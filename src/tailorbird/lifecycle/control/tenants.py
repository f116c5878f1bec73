"""Operations on tenants: the host's admins add, limit, suspend and remove them; each tenant says what is kept of its traffic.

In: what a caller asks. Out: tenants, what they use. Must not know: who calls from where.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tailorbird.access import Action
from tailorbird.domain.feedback import TrafficPolicy
from tailorbird.domain.identity import Role, Tenant
from tailorbird.domain.place import Places
from tailorbird.domain.quota import Limits
from tailorbird.domain.value import Name, Value
from tailorbird.lifecycle.control.operation import Nothing, Operation
from tailorbird.lifecycle.control.people import PublicKey
from tailorbird.lifecycle.identities import tenants
from tailorbird.lifecycle.parts import Actor, Parts


class FirstPerson(Value):
    """Somebody of a new tenant. Their private key was made by whoever sends this, and is not sent."""

    name: Name
    roles: Annotated[frozenset[Role], Field(min_length=1)]
    public_key: PublicKey


class NewTenant(Value):
    """A tenant to add, with its first people, an admin among them."""

    name: Name
    people: Annotated[tuple[FirstPerson, ...], Field(min_length=1, max_length=50)]
    limits: Limits = Limits()


class NewLimits(Value):
    """The limits of a tenant, in place of those it had."""

    name: Name
    limits: Limits


class NewPlaces(Value):
    """Where what a tenant submits may be read from, and with which credential each; in place of what it had."""

    name: Name
    places: Places


class Suspension(Value):
    """Names a tenant whose programs are to be answered nothing; with ``resume``, to be answered again."""

    name: Name
    resume: bool = False


class OneTenant(Value):
    """Names a tenant."""

    name: Name


class Tenants(Value):
    """Tenants, and what each has used in the present minute and month."""

    tenants: tuple[tenants.TenantView, ...]


def _add(parts: Parts, actor: Actor, asked: NewTenant) -> Tenant:
    people = (tenants.Newcomer(**dict(person)) for person in asked.people)
    return tenants.add_tenant(parts, actor, asked.name, people, asked.limits)


def _limit(parts: Parts, actor: Actor, asked: NewLimits) -> Tenant:
    return tenants.limit_tenant(parts, actor, asked.name, asked.limits)


def _places(parts: Parts, actor: Actor, asked: NewPlaces) -> Tenant:
    return tenants.set_places(parts, actor, asked.name, asked.places)


def _suspend(parts: Parts, actor: Actor, asked: Suspension) -> Tenant:
    return tenants.suspend_tenant(parts, actor, asked.name, resume=asked.resume)


def _remove(parts: Parts, actor: Actor, asked: OneTenant) -> tenants.Removed:
    return tenants.remove_tenant(parts, actor, asked.name)


def _list(parts: Parts, actor: Actor, _asked: Nothing) -> Tenants:
    return Tenants(tenants=tenants.view_tenants(parts, actor))


def _policy(parts: Parts, actor: Actor, asked: TrafficPolicy) -> Tenant:
    return tenants.set_policy(parts, actor, asked)


LIST = Operation("tenant.list", "GET", "/api/tenants", Action.SHOW_TENANT, Nothing, Tenants, _list, "List tenants with what they use.")
ADD = Operation("tenant.add", "POST", "/api/tenants", Action.MANAGE_TENANTS, NewTenant, Tenant, _add, "Add a tenant with its first people.")
LIMIT = Operation(
    "tenant.limit", "POST", "/api/tenants/{name}/limits", Action.MANAGE_TENANTS, NewLimits, Tenant, _limit, "Set the limits of a tenant."
)
PLACES = Operation(
    "tenant.places",
    "POST",
    "/api/tenants/{name}/places",
    Action.MANAGE_TENANTS,
    NewPlaces,
    Tenant,
    _places,
    "Say where what a tenant submits may be read from.",
)
SUSPEND = Operation(
    "tenant.suspend",
    "POST",
    "/api/tenants/{name}/suspend",
    Action.MANAGE_TENANTS,
    Suspension,
    Tenant,
    _suspend,
    "Answer a tenant's programs nothing, or again.",
)
REMOVE = Operation(
    "tenant.remove",
    "POST",
    "/api/tenants/{name}/remove",
    Action.MANAGE_TENANTS,
    OneTenant,
    tenants.Removed,
    _remove,
    "Remove a tenant with all that is its.",
)
POLICY = Operation(
    "tenant.policy",
    "POST",
    "/api/tenant/policy",
    Action.SET_POLICY,
    TrafficPolicy,
    Tenant,
    _policy,
    "Say what is kept of the tenant's own traffic.",
)
