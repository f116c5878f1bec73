"""``GET /healthz`` (liveness) and ``GET /readyz`` (readiness)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from tailorbird.crypto.canonical_json import plain_json
from tailorbird.serving import AliasSync
from tailorbird.usecases.maintenance.health import WorkspaceHealth


def health_routes(deployment: AliasSync, condition: Callable[[], WorkspaceHealth]) -> APIRouter:
    """The two routes; neither needs a key. ``condition`` is what was last seen, and answers at once."""
    router = APIRouter()

    @router.get(
        "/healthz",
        summary="Is the process up?",
        description="Says so as long as the process answers, with the warnings that were seen last. Needs no key.",
    )
    async def healthz() -> dict[str, Any]:
        return {"status": "ok", "warnings": [plain_json(notice) for notice in condition().notices]}

    not_yet: dict[int | str, dict[str, Any]] = {
        503: {"description": "Not yet; the body says what is missing.", "content": {"application/json": {}}}
    }

    @router.get(
        "/readyz",
        summary="Does every public name answer as the record says?",
        description="503 until the record can be written, the engine answers and every name is loaded; warnings stop nothing.",
        responses=not_yet,
    )
    async def readyz() -> JSONResponse:
        found, seen = deployment.readiness(), condition()
        ready = found.ready and seen.writable
        told = {
            "ready": ready,
            "ledger": found.ledger and seen.writable,
            "engine": found.engine,
            "aliases": {"live": found.live, "behind": found.behind},
            "warnings": [plain_json(notice) for notice in seen.notices],
        }
        return JSONResponse(told, status_code=200 if ready else 503)

    return router
