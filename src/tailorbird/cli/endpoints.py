"""``tailorbird endpoint``: hosted models, what they cost, and where data go that are sent there."""

from __future__ import annotations

from typing import Annotated

import typer

from tailorbird.cli.groups import command_group
from tailorbird.cli.session import open_session, out, print_json, print_table, say
from tailorbird.domain.endpoint import Endpoint
from tailorbird.usecases.endpoints import TenantEndpoint, add_endpoint, list_endpoints, remove_endpoint
from tailorbird.usecases.registry import validated

endpoint = command_group()
EndpointName = Annotated[str, typer.Argument(help="Name of the endpoint.", metavar="ENDPOINT")]
ForTenants = Annotated[list[str] | None, typer.Option("--tenant", help="Tenant that it is for, repeatable; your own without one.")]


@endpoint.callback()
def _endpoint() -> None:
    """Register, list and remove hosted models (servers of OpenAI's protocol)."""


@endpoint.command("add")
def _add(  # noqa: PLR0913 - a parameter is an option of the command line
    name: EndpointName,
    url: Annotated[str, typer.Option(help="Address of the server, without /v1.")],
    region: Annotated[str, typer.Option(help="Where the data go and who gets them: 'EU (Frankfurt), Example Ltd, contract of 2026-01'.")],
    key: Annotated[str | None, typer.Option("--key-name", help="Name of its key among the setting endpoint_keys.")] = None,
    price: Annotated[
        tuple[float, float], typer.Option(help="Price of 1,000,000 tokens read, and of 1,000,000 written.", metavar="IN OUT")
    ] = (0.0, 0.0),
    currency: Annotated[str, typer.Option(help="Currency of the prices.")] = "EUR",
    money: Annotated[float | None, typer.Option("--money-per-month", help="What releases on it may cost a tenant in a month.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that an answer may take.")] = 30.0,
    private: Annotated[bool, typer.Option("--private", help="It may be on this machine or the local network, and without TLS.")] = False,
    tenant: ForTenants = None,
) -> None:
    """Register a hosted model for tenants, in place of one of that name. Their policy and the terms of the data must allow it too."""
    session = open_session()
    fields = {"name": name, "url": url, "region": region, "key": key, "currency": currency, "timeout_s": timeout, "private": private}
    wanted = validated(Endpoint, fields | {"input_price": price[0], "output_price": price[1], "money_per_month": money})
    tenants = tuple(tenant or (session.tenant,))
    added = session.ask_as("admin", add_endpoint, endpoint=wanted, tenants=tenants)
    if session.as_json:
        print_json(added)
        return
    out.print(f"{name} is registered for {', '.join(tenants)}", markup=False)
    say(f"next: the tenant's admin allows it: tailorbird tenant policy --endpoint {name}")


@endpoint.command("list")
def _list() -> None:
    """List endpoints of your tenant; people of the host see those of all tenants."""
    session = open_session()
    known = session.ask_as("admin", list_endpoints).endpoints
    if session.as_json:
        print_json(known)
        return
    columns = ("tenant", "endpoint", "address", "price per 1M tokens", "paid this month", "timeout", "data go to", "policy")
    print_table(columns, [_row(one) for one in known])


@endpoint.command("remove")
def _remove(name: EndpointName, tenant: ForTenants = None) -> None:
    """Take a hosted model from tenants. Nothing more is sent to it."""
    session = open_session()
    tenants = tuple(tenant or (session.tenant,))
    left = session.ask_as("admin", remove_endpoint, name=name, tenants=tenants)
    print_json(left) if session.as_json else out.print(f"{name} is taken from {', '.join(tenants)}", markup=False)


def _row(one: TenantEndpoint) -> tuple[str, ...]:
    endpoint = one.endpoint
    return (
        one.tenant,
        endpoint.name,
        endpoint.url + (" (private)" if endpoint.private else ""),
        f"{endpoint.input_price:g} + {endpoint.output_price:g} {endpoint.currency}",
        f"{one.paid:.4g}" + ("" if endpoint.money_per_month is None else f" of {endpoint.money_per_month:g}"),
        f"{endpoint.timeout_s:g} s",
        endpoint.region,
        "allows it" if one.allowed else "not allowed",
    )


apps = {"endpoint": endpoint}
