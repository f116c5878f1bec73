"""Replicas of the engine: how they stand before the gateways, and which are drained."""

from __future__ import annotations

from fastapi.responses import Response

from tailorbird.auth import Action
from tailorbird.console.page_context import PageContext, see_other
from tailorbird.usecases.replicas import drain_replica, list_replicas, undrain_replica


def show_all(visit: PageContext) -> Response:
    """The replicas, for people of the host."""
    found = visit.ask(list_replicas).replicas
    return visit.page("replicas.html", found=found, may_drain=visit.may(Action.DRAIN_REPLICA))


def drain(visit: PageContext) -> Response:
    """Has a replica asked nothing new."""
    visit.ask_form(drain_replica, address=visit.form.get("address", ""))
    return see_other("/console/replicas")


def undrain(visit: PageContext) -> Response:
    """Has a drained replica asked again."""
    visit.ask_form(undrain_replica, address=visit.form.get("address", ""))
    return see_other("/console/replicas")
