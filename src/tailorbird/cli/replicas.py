"""``tailorbird replica``: the engine's replicas, and which of them are asked nothing new."""

from __future__ import annotations

from typing import Annotated

import typer

from tailorbird.cli.groups import command_group
from tailorbird.cli.session import open_session, out, print_json, print_table, say
from tailorbird.usecases.replicas import ReplicaView, drain_replica, list_replicas, undrain_replica

replica = command_group()
Address = Annotated[str, typer.Argument(help="Address of the replica, as in the setting engine_url.", metavar="ADDRESS")]


@replica.callback()
def _replica() -> None:
    """List, drain and undrain replicas of the engine."""


@replica.command("list")
def _list() -> None:
    """List replicas as the gateways see them: what answers, what is drained, and what is empty."""
    session = open_session()
    found = session.ask_as("admin", list_replicas).replicas
    if session.as_json:
        print_json(found)
        return
    print_table(("replica", "state", "requests", "releases", "gateways"), [_row(one) for one in found])


@replica.command("drain")
def _drain(
    address: Address,
    force: Annotated[bool, typer.Option("--force", help="At once, without waiting for copies, and even where it is the last.")] = False,
) -> None:
    """Ask a replica nothing new. What it alone holds is loaded by others first; what it answers ends."""
    session = open_session()
    found = session.ask_as("admin", drain_replica, address=address, force=force)
    if session.as_json:
        print_json(found)
        return
    out.print(f"{address} is drained", markup=False)
    say("next: tailorbird replica list says when it is empty; then it can be ended. Back again: tailorbird replica undrain")


@replica.command("undrain")
def _undrain(address: Address) -> None:
    """Ask a drained replica again."""
    session = open_session()
    found = session.ask_as("admin", undrain_replica, address=address)
    print_json(found) if session.as_json else out.print(f"{address} is asked again", markup=False)


def _row(one: ReplicaView) -> tuple[str, ...]:
    return (one.address, _state(one), str(one.under_way), str(one.releases), str(one.gateways))


def _state(one: ReplicaView) -> str:
    if not one.drained:
        return "answers" if one.answering == one.gateways else f"answers {one.answering} of {one.gateways} gateways"
    if one.empty:
        return "drained, empty"
    if one.following < one.gateways:
        return f"drained, {one.following} of {one.gateways} gateways follow"
    return f"drained, {one.alone} releases are moved" if one.alone else "drained, answers the last requests"


apps = {"replica": replica}
