"""All pages in one table, and how each is answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from tailorbird.auth import ConcurrencyLimit
from tailorbird.console import forms, rendering
from tailorbird.console.forms import Fields, read_form
from tailorbird.console.pages import (
    answer_queue,
    audit,
    jobs,
    label_review,
    login,
    objectives,
    releases,
    rollouts,
    runs,
    snapshots,
    tenants,
    traffic,
)
from tailorbird.console.rendering import AnonymousContext, GuestView, PageContext, View, see_other
from tailorbird.domain.errors import NotFound, TailorbirdError, Unauthenticated
from tailorbird.usecases.sessions import LoginEntry

#: Pages for everybody.
_OPEN: tuple[tuple[str, str, GuestView], ...] = (
    ("GET", "/login", login.ask_who),
    ("POST", "/login/prepare", login.prepare),
    ("POST", "/login", login.log_in),
    ("POST", "/logout", login.log_out),
    ("GET", "/static/{name}", lambda guest: rendering.static_file(guest.named("name"))),
)

#: Pages for whoever has a session. What they may see and do there, the control plane says.
_PAGES: tuple[tuple[str, str, View], ...] = (
    ("GET", "", objectives.show),
    ("GET", "/runs", runs.show_all),
    ("GET", "/runs/{run}", runs.show),
    ("GET", "/runs/{run}/progress", runs.show_progress),
    ("GET", "/runs/{run}/evidence", runs.show_evidence),
    ("GET", "/releases", releases.show_all),
    ("GET", "/releases/{digest}", releases.show),
    ("POST", "/releases/{digest}/statement", releases.state),
    ("POST", "/releases/{digest}/decision", releases.decide),
    ("GET", "/releases/{digest}/review", label_review.show),
    ("POST", "/releases/{digest}/review", label_review.judge),
    ("POST", "/releases/{digest}/review/judges", label_review.ask),
    ("GET", "/releases/{digest}/stage", releases.confirm_stage),
    ("POST", "/releases/{digest}/stage", releases.stage),
    ("GET", "/releases/{digest}/promote", releases.confirm_promote),
    ("POST", "/releases/{digest}/promote", releases.promote),
    ("GET", "/releases/{digest}/drill", rollouts.confirm_drill),
    ("POST", "/releases/{digest}/drill", rollouts.drill),
    ("GET", "/releases/{digest}/rollout", rollouts.confirm_start),
    ("POST", "/releases/{digest}/rollout", rollouts.start),
    ("GET", "/aliases/{alias}/rollback", releases.confirm_roll_back),
    ("POST", "/aliases/{alias}/rollback", releases.roll_back),
    ("GET", "/rollouts", rollouts.show_all),
    ("GET", "/rollouts/{rollout}", rollouts.show),
    ("GET", "/rollouts/{rollout}/{decision}", rollouts.confirm),
    ("POST", "/rollouts/{rollout}/{decision}", rollouts.decide),
    ("GET", "/data", snapshots.show_all),
    ("GET", "/data/{snapshot}/labels", snapshots.show_labels),
    ("POST", "/data/{snapshot}/labels", snapshots.decide),
    ("GET", "/reviews", answer_queue.show),
    ("POST", "/reviews/{request}", answer_queue.settle),
    ("GET", "/tenants", tenants.show_all),
    ("GET", "/tenants/new", tenants.ask_new),
    ("POST", "/tenants/new", tenants.add),
    ("GET", "/tenants/{tenant}/limits", tenants.ask_limits),
    ("POST", "/tenants/{tenant}/limits", tenants.limit),
    ("GET", "/tenants/{tenant}/places", tenants.ask_places),
    ("POST", "/tenants/{tenant}/places", tenants.allow),
    ("GET", "/tenants/{tenant}/removal", tenants.ask_removal),
    ("POST", "/tenants/{tenant}/removal", tenants.remove),
    ("GET", "/tenants/{tenant}/suspension", tenants.confirm),
    ("POST", "/tenants/{tenant}/suspension", tenants.toggle),
    ("GET", "/traffic", traffic.show),
    ("GET", "/requests/{request}", traffic.explain),
    ("GET", "/signals", traffic.show_signals),
    ("GET", "/jobs", jobs.show_all),
    ("GET", "/jobs/{run}/cancel", jobs.confirm_cancel),
    ("POST", "/jobs/{run}/cancel", jobs.cancel),
    ("GET", "/audit", audit.show),
    ("POST", "/audit/verify", audit.verify),
)

#: Pages that are made at once, of the threads that all pages share; and those of one tenant.
_PAGES_AT_ONCE, _PAGES_EACH = 32, 8

_Endpoint = Callable[[Request], Awaitable[Response]]


def console_routes(entrance: LoginEntry) -> APIRouter:
    """The console's pages and files, and a page that says so for whatever else is asked for below ``/console``."""
    router = APIRouter(prefix="/console", include_in_schema=False)
    pages = ConcurrencyLimit(_PAGES_AT_ONCE, _PAGES_EACH, "pages of the console", "pages_at_once")
    for method, path, guest_view in _OPEN:
        router.add_api_route(path, _open(entrance, guest_view), methods=[method])
    for method, path, view in _PAGES:
        router.add_api_route(path, _known(entrance, pages, view), methods=[method])
    router.add_api_route("/{rest:path}", _open(entrance, _nothing), methods=["GET", "POST"])
    return router


def _open(entrance: LoginEntry, view: GuestView) -> _Endpoint:
    return _endpoint(lambda request, form: view(AnonymousContext(entrance, request, form)))


def _known(entrance: LoginEntry, pages: ConcurrencyLimit, view: View) -> _Endpoint:
    def answer(request: Request, form: Fields) -> Response:
        # An error's page, too, knows who is here.
        request.state.actor = forms.enter(entrance.deps, request)
        with pages.turn(request.state.actor.tenant):
            return view(PageContext(entrance, request, form, request.state.actor))

    return _endpoint(answer)


def _endpoint(answer: Callable[[Request, Fields], Response]) -> _Endpoint:
    """Reads the form of a POST that came from our own page, answers off the event loop, and turns our errors into pages."""

    async def endpoint(request: Request) -> Response:
        try:
            form: Fields = {}
            if request.method == "POST":
                forms.require_own_page(request)
                form = await read_form(request)
            response = await run_in_threadpool(answer, request, form)
        except TailorbirdError as error:
            response = _refusal(request, error)
        return rendering.sealed(response)

    return endpoint


def _refusal(request: Request, error: TailorbirdError) -> Response:
    """The page of an error; who only looked without a session is sent to log in first."""
    if isinstance(error, Unauthenticated) and request.method == "GET":
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return see_other(f"/console/login?next={quote(wanted, safe='/')}")
    return rendering.page(
        "error.html", {"actor": getattr(request.state, "actor", None), "path": request.url.path, "error": error}, error.status
    )


def _nothing(guest: AnonymousContext) -> Response:
    if not guest.named("rest"):
        return see_other("/console")
    raise NotFound("there is no such page", "start from the objectives", code="page_missing")
