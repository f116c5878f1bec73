"""Tenants: what each uses of its limits; who answers nobody for the time being.

In: a session. Out: pages. Must not know: how use is counted.
"""

from __future__ import annotations

from typing import get_args

from fastapi.responses import Response

from tailorbird.access import Action
from tailorbird.console.visit import Visit, see_other
from tailorbird.domain.quota import Amounts, Period
from tailorbird.lifecycle.control import tenants
from tailorbird.lifecycle.identities.tenants import TenantView

_COUNTED = {"requests": "requests", "input_tokens": "tokens read", "output_tokens": "tokens written", "money": "money"}
_PERIODS: tuple[Period, ...] = get_args(Period)


def show_all(visit: Visit) -> Response:
    """The tenants that the actor may see, with what they use: the host's people see all."""
    found = visit.ask(tenants.LIST).tenants
    manages = visit.may(Action.MANAGE_TENANTS) and visit.actor.tenant == visit.parts.host
    return visit.page("tenants.html", found=[(view, _used(view)) for view in found], manages=manages)


def confirm(visit: Visit) -> Response:
    """Asks before a tenant is suspended, or answered again."""
    name = visit.named("tenant")
    resume = _is_suspended(visit, name)
    told = (
        "Its programs are answered again at once."
        if resume
        else "Its programs are refused from now on, within a second. Its people can log in, and nothing of it is removed.",
    )
    button = "Answer it again" if resume else "Suspend it"
    return visit.page("confirm.html", title=f"{button}: {name}", told=told, button=button, back="/console/tenants", ask_reason=False)


def toggle(visit: Visit) -> Response:
    """Suspends a tenant, or has it answered again."""
    name = visit.named("tenant")
    visit.ask(tenants.SUSPEND, name=name, resume=_is_suspended(visit, name))
    return see_other("/console/tenants")


def _is_suspended(visit: Visit, name: str) -> bool:
    return any(view.tenant.name == name and view.tenant.suspended_at is not None for view in visit.ask(tenants.LIST).tenants)


def _used(view: TenantView) -> list[tuple[str, Period, float, float | None]]:
    """What is counted, in which period, how much of it was used, and the limit where there is one; what was neither used nor limited is
    left out."""
    rows = []
    for period in _PERIODS:
        used: Amounts = getattr(view, period).amounts
        limits = view.tenant.limits.of(period)
        rows += [(words, period, float(getattr(used, name)), limits.get(name)) for name, words in _COUNTED.items()]
    return [row for row in rows if row[2] or row[3] is not None]
