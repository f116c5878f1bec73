"""Endpoints of tenants: hosted models, registered by the host; and whether the data of an objective may be sent to one.

Three have to agree before anything leaves the house: the host registers the endpoint for the tenant, the tenant's admin names it in the
policy, and the terms of each source name it among its processors.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

from pydantic import Field

from tailorbird.auth import Action
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.endpoint import Endpoint, HostedModel, is_plain_address
from tailorbird.domain.errors import Conflict, Forbidden, InvalidInput, NotFound
from tailorbird.domain.event import Event
from tailorbird.domain.identity import Tenant
from tailorbird.domain.objective import Objective
from tailorbird.domain.quota import window_start
from tailorbird.domain.rung_wishes import EndpointWishes
from tailorbird.domain.value import Digest, Name, Value
from tailorbird.objective import Fault, ObjectiveFile, raise_faults
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.usecases.anchored_rows import demand_anchored
from tailorbird.usecases.audit_events import Facts, record, require_host
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.registry import usecase

Tenants = Annotated[tuple[Name, ...], Field(min_length=1, max_length=100)]


class TenantEndpoint(Value):
    """An endpoint of a tenant; ``allowed``: the tenant's own policy names it. ``paid`` is what requests to its releases have cost since the
    month began, in the currency of the settings' prices."""

    tenant: Name
    endpoint: Endpoint
    allowed: bool
    paid: float = 0.0


class EndpointList(Value):
    """Endpoints, by tenant and name."""

    endpoints: tuple[TenantEndpoint, ...]


@usecase("endpoint.add", "POST", "/api/endpoints", Action.MANAGE_TENANTS)
def add_endpoint(deps: Dependencies, actor: Actor, endpoint: Endpoint, tenants: Tenants) -> EndpointList:
    """Register a hosted model for tenants.

    In place of the one of that name, where a tenant has one. Nothing is sent to it until the tenant's policy and the terms of the data
    allow it. Raises NotFound (no such tenant): then none of them has it; InvalidInput
    (``endpoint_address``).
    """
    require_host(deps, actor)
    if not is_plain_address(endpoint.url):
        raise InvalidInput(
            f"the address of the endpoint {endpoint.name} can be read in more than one way",
            "write it in plain letters: https://HOST[:PORT][/PATH]; a name with other letters in its xn-- form",
            code="endpoint_address",
        )
    facts: Facts = {"name": endpoint.name, "url": endpoint.url, "region": endpoint.region, "private": endpoint.private}
    with deps.ledger.system() as system:
        changed = [_with(system.tenants.get(name), endpoint) for name in sorted(set(tenants))]
        for tenant in changed:
            system.tenants.replace(tenant)
            system.events.append([_event("endpoint.added", tenant, actor, deps, facts)])
    return EndpointList(endpoints=tuple(_shown(deps, tenant, endpoint) for tenant in changed))


@usecase("endpoint.list", "GET", "/api/endpoints", Action.SHOW_TENANT)
def list_endpoints(deps: Dependencies, actor: Actor) -> EndpointList:
    """List endpoints with their prices, what they were paid this month, and where data go that are sent there.

    Those of all tenants for people of the host; for others their own.
    """
    with deps.ledger.system(write=False) as system:
        every = deps.host and actor.tenant == deps.host
        known = system.tenants.all().values() if every else (system.tenants.get(actor.tenant),)
    return EndpointList(endpoints=tuple(_shown(deps, tenant, endpoint) for tenant in known if tenant for endpoint in tenant.endpoints))


@usecase("endpoint.remove", "POST", "/api/endpoints/{name}/remove", Action.MANAGE_TENANTS)
def remove_endpoint(deps: Dependencies, actor: Actor, name: Name, tenants: Tenants) -> EndpointList:
    """Take a hosted model from tenants.

    Nothing more is sent to it: rungs that need it fail, and releases on it answer by what stands in for them. Raises NotFound.
    """
    require_host(deps, actor)
    with deps.ledger.system() as system:
        changed = []
        for each in sorted(set(tenants)):
            tenant = system.tenants.get(each)
            find_endpoint(tenant, name)
            changed.append(tenant.model_copy(update={"endpoints": tuple(kept for kept in tenant.endpoints if kept.name != name)}))
        for tenant in changed:
            system.tenants.replace(tenant)
            system.events.append([_event("endpoint.removed", tenant, actor, deps, {"name": name})])
    return EndpointList(endpoints=tuple(_shown(deps, tenant, endpoint) for tenant in changed for endpoint in tenant.endpoints))


def find_endpoint(tenant: Tenant, name: str) -> Endpoint:
    """The endpoint. Raises NotFound, as for one that is another tenant's."""
    found = next((endpoint for endpoint in tenant.endpoints if endpoint.name == name), None)
    if found is None:
        hint = "see tailorbird endpoint list, or ask an admin of the host to register it: tailorbird endpoint add"
        raise NotFound(f"{tenant.name} has no endpoint {name}", hint, code="endpoint_missing")
    return found


def usable_endpoint(deps: Dependencies, tenant: str, name: str) -> Endpoint:
    """The endpoint, where the tenant's policy lets its data be sent there. The row is checked against the log first.

    Raises NotFound (``endpoint_missing``), Forbidden (``endpoint_not_allowed``), Corrupt.
    """
    with deps.ledger.system(write=False) as system:
        known = system.tenants.get(tenant)
    with deps.ledger.work(tenant, write=False) as work:
        demand_anchored(work, known)
    found = find_endpoint(known, name)
    if name not in known.policy.endpoints:
        raise Forbidden(
            f"the policy of {tenant} does not let its data be sent to the endpoint {name}",
            f"an admin of {tenant} decides: tailorbird tenant policy --endpoint {name}",
            code="endpoint_not_allowed",
        )
    return found


def demand_currency(deps: Dependencies, endpoint: Endpoint, objective: Objective | None = None) -> None:
    """Returns when the endpoint is paid in the currency in which this installation counts, and the budget of the objective: their money is
    added up. Raises Conflict (``endpoint_changed``)."""
    counted = {"this installation": deps.prices.currency} | ({"the budget": objective.budget.currency} if objective else {})
    for what, currency in counted.items():
        if endpoint.currency != currency:
            raise Conflict(
                f"the endpoint {endpoint.name} is paid in {endpoint.currency}, and {what} counts in {currency}",
                "register it with prices in that currency: tailorbird endpoint add, with the same name",
                code="endpoint_changed",
            )


def demand_terms(objective: Objective, name: str) -> None:
    """Returns when every source of the objective may be sent to the endpoint. Raises Forbidden (``terms_forbid``), naming the first."""
    terms = [(each.path, each.source) for each in objective.data] + [(each.path, each.source) for each in objective.documents]
    for path, source in terms:
        if name not in source.processors:
            raise Forbidden(
                f"the terms of {path} do not let it be sent to the endpoint {name}",
                f"where they do, say so under its `source`: processors: [{name}]; otherwise leave the endpoint out",
                code="terms_forbid",
            )


class NamedEndpoints(NamedTuple):
    """The endpoints that an objective names: of the ``hosted`` model, and of the ``proposer`` of its prompt's search."""

    hosted: Endpoint | None
    proposer: Endpoint | None

    @property
    def identity(self) -> dict[str, Digest]:
        """What stands in a run's fingerprint for them: whom it asks, and at what price; not by which key."""
        named = {"endpoint": self.hosted, "proposer": self.proposer}
        return {name: digest_of(each.model_copy(update={"key": None})) for name, each in named.items() if each is not None}


def named_endpoints(deps: Dependencies, file: ObjectiveFile) -> NamedEndpoints:
    """The endpoints that an objective names, where all who have to agree do: they are asked again before anything is sent. Raises
    ObjectiveInvalid at the line of ``hosted`` or of ``prompt_search``, with the code of what stands in the way."""
    objective = file.objective
    return NamedEndpoints(
        hosted=_named(deps, file, objective.hosted, "hosted.endpoint"),
        proposer=_named(deps, file, objective.prompt_search.proposer, "prompt_search.proposer.endpoint"),
    )


def _named(deps: Dependencies, file: ObjectiveFile, wishes: EndpointWishes | None, path: str) -> Endpoint | None:
    if wishes is None:
        return None
    try:
        found = usable_endpoint(deps, file.objective.tenant, wishes.endpoint)
        demand_terms(file.objective, found.name)
    except (NotFound, Forbidden) as error:
        raise_faults(file.source, [Fault(file.line_of(path), error.message, error.hint, error.error_code)])
        raise
    return found


def served_endpoint(deps: Dependencies, tenant: str, model: HostedModel) -> Endpoint:
    """The endpoint of a release, as requests may be sent to it now. Raises as ``usable_endpoint``; Conflict (``endpoint_changed``) where
    its address is not the one that was measured, or it is paid in another currency than this installation counts in."""
    found = usable_endpoint(deps, tenant, model.endpoint)
    if found.url != model.url:
        raise Conflict(
            f"the endpoint {found.name} has another address than the release was measured with",
            "adapt again, or register it with its former address",
            code="endpoint_changed",
        )
    demand_currency(deps, found)
    return found


def paid_this_month(deps: Dependencies, tenant: str, endpoint: str) -> float:
    """What a tenant has paid an endpoint for requests since the month began, whichever release and gateway asked, and whatever came of
    it."""
    with deps.ledger.work(tenant, write=False) as work:
        return work.usage.paid(endpoint, window_start("month", deps.clock.now()))


def tell_sent(work: UnitOfWork, actor: str, deps: Dependencies, endpoint: Endpoint, facts: Facts) -> None:
    """Writes, before it is done, that data are sent to an endpoint: what is sent cannot be called back, and somebody may ask for it.
    ``facts`` name at least ``objective``, ``split``, ``rows`` (at most) and ``model``."""
    told: Facts = {"url": endpoint.url, "region": endpoint.region}
    record(work, "data.sent", actor, endpoint.name, deps.clock.now(), told | facts)


def endpoint_events(work: UnitOfWork) -> list[Event]:
    """What the log tells of the tenant's endpoints, in its order: each that was ever registered (``endpoint.added``), and under its name
    what was sent to it, paid to it, and labelled by it. The rest of the log is not read."""
    added = [entry for entry in work.events.about(work.tenant) if entry.event.kind == "endpoint.added"]
    names = sorted({str(entry.event.data.get("name")) for entry in added})
    told = {entry.index: entry.event for entry in (*added, *(each for name in names for each in work.events.about(name)))}
    return [told[index] for index in sorted(told)]


def _with(tenant: Tenant, endpoint: Endpoint) -> Tenant:
    others = [each for each in tenant.endpoints if each.name != endpoint.name]
    return tenant.model_copy(update={"endpoints": tuple(sorted([*others, endpoint], key=lambda each: each.name))})


def _shown(deps: Dependencies, tenant: Tenant, endpoint: Endpoint) -> TenantEndpoint:
    paid = paid_this_month(deps, tenant.name, endpoint.name)
    return TenantEndpoint(tenant=tenant.name, endpoint=endpoint, allowed=endpoint.name in tenant.policy.endpoints, paid=paid)


def _event(kind: str, tenant: Tenant, actor: Actor, deps: Dependencies, facts: Facts) -> Event:
    who = f"{actor.tenant}/{actor.name}"
    return Event(kind=kind, tenant=tenant.name, actor=who, subject=tenant.name, at=deps.clock.now(), data=facts)
