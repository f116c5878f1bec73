"""``GET /healthz`` (liveness) and ``GET /readyz`` (readiness)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from tailorbird.api.authentication import shows_api_key
from tailorbird.api.sessions import SessionActors
from tailorbird.auth.request_checks import COOKIE
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.identity import Identity
from tailorbird.serving import AliasSync
from tailorbird.system.background_loop import Rounds
from tailorbird.usecases.maintenance.checkpoint_shipping import Notice
from tailorbird.usecases.maintenance.health import WorkspaceHealth, warnings_for
from tailorbird.usecases.sessions import LoginEntry

#: What an admin reads of tenants and people stays in no cache.
_NOT_KEPT = {"cache-control": "no-store"}


def health_routes(
    deployment: AliasSync, condition: Callable[[], WorkspaceHealth], entrance: LoginEntry, loops: Sequence[Rounds] = ()
) -> APIRouter:
    """The two routes; neither needs a session. ``condition`` is what was last seen, and answers at once; ``loops`` are those of the
    gateway, which is not ready while one of them fails."""
    router, sessions = APIRouter(), SessionActors(entrance)

    async def warnings(request: Request, notices: Sequence[Notice]) -> list[dict[str, Any]]:
        told = warnings_for(sessions.deps, notices, await _reader(sessions, request))
        return [warning.model_dump(mode="json", exclude_defaults=True) for warning in told]

    @router.get(
        "/healthz",
        summary="Is the process up?",
        description="Says so as long as the process answers, with code and count of the warnings that were seen last. Needs no session; an "
        "admin's session also reads their texts, which may name tenants and people.",
    )
    async def healthz(request: Request, response: Response) -> dict[str, Any]:
        response.headers.update(_NOT_KEPT)
        return {"status": "up", "warnings": await warnings(request, condition().notices)}

    not_yet: dict[int | str, dict[str, Any]] = {
        503: {"description": "Not yet; the body says what is missing.", "content": {"application/json": {}}}
    }

    @router.get(
        "/readyz",
        summary="Does every public name answer as the record says?",
        description="503 until the record and its log can be written, the engine answers and every name is loaded, and while work in the "
        "background fails again and again (``failing`` names it); warnings stop nothing.",
        responses=not_yet,
    )
    async def readyz(request: Request) -> JSONResponse:
        found, seen = deployment.readiness(), condition()
        failing = [loop.name for loop in loops if loop.is_failing]
        ready = found.ready and seen.writable and not failing
        told = {
            "ready": ready,
            "ledger": found.ledger and seen.writable,
            "engine": found.engine,
            "aliases": {"live": found.live, "behind": found.behind},
            "failing": failing,
            "warnings": await warnings(request, seen.notices),
        }
        return JSONResponse(told, status_code=200 if ready else 503, headers=_NOT_KEPT)

    return router


async def _reader(sessions: SessionActors, request: Request) -> Identity | None:
    """Whose session ``request`` shows; None without a valid one. Who shows none waits for nothing."""
    if COOKIE not in request.cookies and ("authorization" not in request.headers or shows_api_key(request)):
        return None
    try:
        return (await sessions.actor(request)).identity
    except TailorbirdError:
        return None
