"""Traffic of the releases in production, and the signals that were read from it."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from tailorbird.auth import Action
from tailorbird.domain.deployment import RequestRow, Traffic
from tailorbird.domain.feedback import Signal
from tailorbird.domain.value import Name, Value
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.registry import PageSize, usecase


class TrafficView(Value):
    """What each release answered in the window, and the newest requests."""

    traffic: tuple[Traffic, ...]
    latest: tuple[RequestRow, ...]


class SignalList(Value):
    """Readings of production, newest first."""

    signals: tuple[Signal, ...]


@usecase("traffic.show", "GET", "/api/traffic", Action.SHOW_TRAFFIC)
def show_traffic(deps: Dependencies, actor: Actor, minutes: Annotated[int, Field(ge=1, le=60 * 24 * 31)] = 60) -> TrafficView:
    """Show what each release answered lately.

    In the last ``minutes``.
    """
    now = deps.clock.now()
    with deps.ledger.work(actor.tenant, write=False) as work:
        return TrafficView(traffic=work.requests.traffic(now - timedelta(minutes=minutes), now), latest=work.requests.latest(50))


@usecase("signal.list", "GET", "/api/signals", Action.SHOW_TRAFFIC)
def list_signals(deps: Dependencies, actor: Actor, limit: PageSize = 100, objective: Name | None = None) -> SignalList:
    """List readings of production, newest first.

    Of one objective, where it is named.
    """
    with deps.ledger.work(actor.tenant, write=False) as work:
        return SignalList(signals=work.signals.latest(limit, objective))
