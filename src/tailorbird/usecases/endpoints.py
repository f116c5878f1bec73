"""Endpoints of tenants: hosted models, registered by the host; and whether the data of an objective may be sent to one.

Three have to agree before anything leaves the house: the host registers the endpoint for the tenant, the tenant's admin names it in the
policy, and the terms of each source name it among its processors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field

from tailorbird.auth import Action
from tailorbird.domain.dataset import Split
from tailorbird.domain.endpoint import Endpoint, HostedModel, is_plain_address, is_same_model, server_of
from tailorbird.domain.errors import Conflict, Forbidden, InvalidInput, NotFound
from tailorbird.domain.event import Event
from tailorbird.domain.identity import Tenant, window_start
from tailorbird.domain.objective import GeneratedBy, Objective
from tailorbird.domain.value import Name, Value
from tailorbird.ledger import UnitOfWork
from tailorbird.objective import Fault, ObjectiveFile, raise_faults
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
    allow it. Raises NotFound (no such tenant): then none of them has it; InvalidInput.
    """
    require_host(deps, actor)
    if not is_plain_address(endpoint.url):
        raise InvalidInput(
            f"the address of the endpoint {endpoint.name} can be read in more than one way",
            "write it in plain letters: https://HOST[:PORT][/PATH]; a name with other letters in its xn-- form",
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


def named_endpoint(deps: Dependencies, file: ObjectiveFile) -> Endpoint | None:
    """The endpoint of the objective's ``hosted`` model, where all who have to agree do: they are asked again before anything is sent.
    Raises ObjectiveInvalid at its line, with the code of what stands in the way."""
    wishes = file.objective.hosted
    if wishes is None:
        return None
    try:
        found = usable_endpoint(deps, file.objective.tenant, wishes.endpoint)
        demand_terms(file.objective, found.name)
    except (NotFound, Forbidden) as error:
        raise_faults(file.source, [Fault(file.line_of("hosted.endpoint"), error.message, error.hint, error.error_code)])
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


#: The split under which it is told that texts were sent to be labelled.
TEACHER = "teacher"


def demand_unshown(work: UnitOfWork, objective: str, endpoint: Endpoint, model: str) -> None:
    """Raises Conflict (``teacher_saw_test``) where the server of ``endpoint``, or the same model at another, was shown the objective's
    sealed test, under whatever name."""
    showings = _showings(endpoint_events(work), objective)
    first = next((event for event in showings if _is_of(event, {server_of(endpoint.url)}, model)), None)
    if first is not None:
        raise Conflict(
            f"{model} at the endpoint {endpoint.name} was shown the sealed test of {objective} on {first.at.date().isoformat()}",
            "let another model of another server label the texts: what it learned of the test would be learned from here",
            code="teacher_saw_test",
        )


def demand_teachers_unshown(work: UnitOfWork, file: ObjectiveFile) -> None:
    """Raises ObjectiveInvalid (``teacher_saw_test``) at the line of rows of an endpoint that was shown the objective's sealed test, by all
    addresses that it ever had.

    What an objective says of when they were labelled is believed where the log tells of it: ``data annotate`` at that time, before.
    """
    sources = [(index, source, made) for index, source in enumerate(file.objective.data) if (made := source.source.generated) is not None]
    events = endpoint_events(work) if sources else []
    for index, source, made in sources:
        servers = {server_of(url) for event in events if (url := _address_under(event, made.endpoint))}
        shown = next((event for event in _showings(events, file.objective.name) if _is_of(event, servers, made.model)), None)
        if shown is None or _is_labelled(events[: events.index(shown)], file.objective.name, made):
            continue
        who = f"{made.model} at the endpoint {made.endpoint}"
        what = f"{who} was shown the sealed test of {file.objective.name}, and has labelled {source.path}"
        hint = (
            "leave the source out: what it learned of the test would be learned from here; labels of before count where "
            "`tailorbird data annotate` gave them, with the time that it printed"
        )
        raise_faults(file.source, [Fault(file.line_of(f"data.{index}.source.generated"), what, hint, "teacher_saw_test")])


def _is_labelled(events: Iterable[Event], objective: str, made: GeneratedBy) -> bool:
    """True where ``events`` tell of that labelling. The order of the log counts, not what clocks said."""
    wanted = ("data.annotated", made.endpoint, objective, to_second(made.at))
    return any(
        (event.kind, event.subject, event.data.get("objective"), event.data.get("at")) == wanted
        and made.model in ({str(event.data.get("model", "")), *str(event.data.get("reported", "")).split(", ")} - {""})
        for event in events
    )


def to_second(at: datetime) -> str:
    """A moment as the log tells it."""
    return at.astimezone(UTC).isoformat(timespec="seconds")


def _showings(events: Iterable[Event], objective: str) -> Iterator[Event]:
    """Where the objective's sealed test was sent."""
    wanted = (Split.TEST.value, objective)
    return (event for event in events if event.kind == "data.sent" and (event.data.get("split"), event.data.get("objective")) == wanted)


def _is_of(event: Event, servers: set[str], model: str) -> bool:
    return server_of(str(event.data.get("url", ""))) in servers or is_same_model(str(event.data.get("model", "")), model)


def _address_under(event: Event, name: str) -> str | None:
    """The address that the endpoint ``name`` had by an event of the log."""
    named = event.data.get("name") if event.kind == "endpoint.added" else event.subject
    return str(event.data.get("url", "")) if named == name else None
