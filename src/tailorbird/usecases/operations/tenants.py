"""Operations on tenants: the host's admins add, limit, suspend and remove them; each tenant says what is kept of its traffic."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tailorbird.auth import Action
from tailorbird.domain.allowed_places import Places
from tailorbird.domain.feedback import TrafficPolicy
from tailorbird.domain.identity import Role, Tenant
from tailorbird.domain.quota import QuotaLimits
from tailorbird.domain.value import Name, Value
from tailorbird.usecases import tenants
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.operations.identities import PublicKey
from tailorbird.usecases.operations.operation import Nothing, Operation


class FirstPerson(Value):
    """Somebody of a new tenant. Their private key was made by whoever sends this, and is not sent."""

    name: Name
    roles: Annotated[frozenset[Role], Field(min_length=1)]
    public_key: PublicKey


class NewTenant(Value):
    """A tenant to add, with its first people, an admin among them."""

    name: Name
    people: Annotated[tuple[FirstPerson, ...], Field(min_length=1, max_length=50)]
    limits: QuotaLimits = QuotaLimits()


class NewLimits(Value):
    """The limits of a tenant, in place of those it had."""

    name: Name
    limits: QuotaLimits


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


class TenantList(Value):
    """Tenants, and what each has used in the present minute and month."""

    tenants: tuple[tenants.TenantView, ...]


def _add(deps: Dependencies, actor: Actor, asked: NewTenant) -> Tenant:
    people = (tenants.Newcomer(**dict(person)) for person in asked.people)
    return tenants.add_tenant(deps, actor, asked.name, people, asked.limits)


def _limit(deps: Dependencies, actor: Actor, asked: NewLimits) -> Tenant:
    return tenants.limit_tenant(deps, actor, asked.name, asked.limits)


def _places(deps: Dependencies, actor: Actor, asked: NewPlaces) -> Tenant:
    return tenants.set_places(deps, actor, asked.name, asked.places)


def _suspend(deps: Dependencies, actor: Actor, asked: Suspension) -> Tenant:
    return tenants.suspend_tenant(deps, actor, asked.name, resume=asked.resume)


def _remove(deps: Dependencies, actor: Actor, asked: OneTenant) -> tenants.Removed:
    return tenants.remove_tenant(deps, actor, asked.name)


def _list(deps: Dependencies, actor: Actor, _asked: Nothing) -> TenantList:
    return TenantList(tenants=tenants.view_tenants(deps, actor))


def _policy(deps: Dependencies, actor: Actor, asked: TrafficPolicy) -> Tenant:
    return tenants.set_policy(deps, actor, asked)


LIST = Operation("tenant.list", "GET", "/api/tenants", Action.SHOW_TENANT, Nothing, TenantList, _list, "List tenants with what they use.")
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
