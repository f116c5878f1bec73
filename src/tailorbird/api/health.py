"""``GET /healthz`` and ``GET /readyz``: whether the process is up, and whether it can answer.

In: the deployment's readiness. Out: 200, or 503 with what is missing, in numbers; no name of a tenant or model.
Must not know: how readiness is found.
"""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from tailorbird.serving import Deployment


def health_routes(deployment: Deployment) -> APIRouter:
    """The two routes; neither needs a key."""
    router = APIRouter()

    @router.get("/healthz", summary="Is the process up?")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/readyz", summary="Does every public name answer as the record says?")
    async def readyz() -> JSONResponse:
        found = deployment.readiness()
        told = {
            "ready": found.ready,
            "ledger": found.ledger,
            "engine": found.engine,
            "aliases": {"live": found.live, "behind": found.behind},
        }
        return JSONResponse(told, status_code=200 if found.ready else 503)

    return router
