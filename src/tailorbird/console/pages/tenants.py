"""Tenants: what each uses of its limits; how the host's admins add, limit, suspend and remove them."""

from __future__ import annotations

from typing import get_args

from fastapi.responses import Response

from tailorbird.auth import Action
from tailorbird.console.rendering import PageContext, see_other
from tailorbird.domain.allowed_places import ANONYMOUS
from tailorbird.domain.errors import InvalidInput, NotFound
from tailorbird.domain.identity import Role, Tenant
from tailorbird.domain.quota import Amounts, Period, QuotaLimits
from tailorbird.usecases.tenants import TenantView, add_tenant, limit_tenant, list_tenants, remove_tenant, set_places, suspend_tenant

_COUNTED = {"requests": "requests", "input_tokens": "tokens read", "output_tokens": "tokens written", "money": "money"}
_PERIODS: tuple[Period, ...] = get_args(Period)


def show_all(visit: PageContext) -> Response:
    """The tenants that the actor may see, with what they use: the host's people see all."""
    found = visit.ask(list_tenants).tenants
    manages = visit.may(Action.MANAGE_TENANTS) and visit.actor.tenant == visit.deps.host
    return visit.page("tenants.html", found=[(view, _used(view)) for view in found], manages=manages)


def ask_new(visit: PageContext) -> Response:
    """Asks for a tenant's name, its first admin and its limits."""
    return visit.page("tenant_form.html", title="Add a tenant", new=True, fields=_fields(QuotaLimits()), button="Add it")


def add(visit: PageContext) -> Response:
    """Adds a tenant. Its admin's private key was made elsewhere, and is not sent."""
    admin = {"name": visit.form.get("admin", ""), "roles": {Role.ADMIN}, "public_key": visit.form.get("public_key", "").strip()}
    visit.ask_form(add_tenant, name=visit.form.get("name", ""), people=(admin,), limits=_limits(visit))
    return see_other("/console/tenants")


def ask_limits(visit: PageContext) -> Response:
    """Asks for the limits of a tenant."""
    name = visit.named("tenant")
    return visit.page(
        "tenant_form.html", title=f"Limits of {name}", new=False, fields=_fields(_known(visit, name).limits), button="Set them"
    )


def limit(visit: PageContext) -> Response:
    """Sets the limits of a tenant, in place of those it had."""
    visit.ask_form(limit_tenant, name=visit.named("tenant"), limits=_limits(visit))
    return see_other("/console/tenants")


def ask_places(visit: PageContext) -> Response:
    """Asks where what a tenant submits may be read from."""
    known = _known(visit, visit.named("tenant"))
    return visit.page("tenant_places.html", name=known.name, places=known.places)


def allow(visit: PageContext) -> Response:
    """Sets a tenant's places, in place of those it had: one a line, a prefix and the name of its credential."""
    lines = [line.split() for line in visit.form.get("places", "").splitlines() if line.strip()]
    if any(len(line) > 2 for line in lines):
        raise InvalidInput("a line has more than a prefix and a credential", "write: s3://bucket/folder worker", code="field_invalid")
    places = [{"prefix": line[0], "credential": line[1] if len(line) > 1 else ANONYMOUS} for line in lines]
    visit.ask_form(set_places, name=visit.named("tenant"), places=places)
    return see_other("/console/tenants")


def ask_removal(visit: PageContext) -> Response:
    """Asks for the name once more before a tenant is removed."""
    return visit.page("tenant_removal.html", name=_known(visit, visit.named("tenant")).name)


def remove(visit: PageContext) -> Response:
    """Removes a tenant whose name was written once more, and tells what was deleted."""
    name = visit.named("tenant")
    if visit.form.get("name", "").strip() != name:
        raise InvalidInput("what you wrote is not the tenant's name", "go back, and write it as it stands there", code="field_invalid")
    return visit.page("tenant_removed.html", gone=visit.ask(remove_tenant, name=name))


def confirm(visit: PageContext) -> Response:
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


def toggle(visit: PageContext) -> Response:
    """Suspends a tenant, or has it answered again."""
    name = visit.named("tenant")
    visit.ask(suspend_tenant, name=name, resume=_is_suspended(visit, name))
    return see_other("/console/tenants")


def _is_suspended(visit: PageContext, name: str) -> bool:
    return _known(visit, name).suspended_at is not None


def _known(visit: PageContext, name: str) -> Tenant:
    for view in visit.ask(list_tenants).tenants:
        if view.tenant.name == name:
            return view.tenant
    raise NotFound(f"there is no tenant {name}", "choose one from the list", code="tenant_missing")


def _fields(limits: QuotaLimits) -> list[tuple[str, str, float | None]]:
    """Every limit: its name, what it is called, what it is now."""
    stored = ("storage_bytes", "bytes stored", limits.storage_bytes)
    counted = [
        (f"{name}_per_{period}", f"{words} a {period}", getattr(limits, f"{name}_per_{period}"))
        for period in _PERIODS
        for name, words in _COUNTED.items()
    ]
    return [*counted, stored]


def _limits(visit: PageContext) -> dict[str, str]:
    """What was written; an empty field limits nothing."""
    return {name: written for name in QuotaLimits.model_fields if (written := visit.form.get(name, "").strip())}


def _used(view: TenantView) -> list[tuple[str, Period, float, float | None]]:
    """What is counted, in which period, how much of it was used, and the limit where there is one; what was neither used nor limited is
    left out."""
    rows = []
    for period in _PERIODS:
        used: Amounts = getattr(view, period).amounts
        limits = view.tenant.limits.of(period)
        rows += [(words, period, float(getattr(used, name)), limits.get(name)) for name, words in _COUNTED.items()]
    return [row for row in rows if row[2] or row[3] is not None]
