"""``GET /healthz`` and ``GET /readyz``: whether the process is up, and whether it can answer.

In: the deployment's readiness, the workspace's condition. Out: 200, or 503 with what is missing, in numbers; warnings that stop nothing.
No name of a tenant or model. Must not know: how either is found.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from tailorbird.foundations.canonical import plain_json
from tailorbird.lifecycle.upkeep.condition import Condition
from tailorbird.serving import Deployment


def health_routes(deployment: Deployment, condition: Callable[[], Condition]) -> APIRouter:
    """The two routes; neither needs a key. ``condition`` is what was last seen, and answers at once."""
    router = APIRouter()

    @router.get("/healthz", summary="Is the process up?", description="Says so as long as the process answers. Needs no key.")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

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
