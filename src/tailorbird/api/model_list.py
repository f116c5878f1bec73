"""``GET /v1/models``: the names that answer this caller, and no others.

In: a key. Out: OpenAI's list of models. Must not know: releases that do not answer.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from tailorbird.api.authentication import Authenticator
from tailorbird.domain.deployment import Alias
from tailorbird.serving import Routes


def model_routes(routes: Routes, authenticate: Authenticator) -> APIRouter:
    """The list, and one entry of it."""
    router = APIRouter()

    @router.get("/v1/models", summary="List the models that answer this key")
    async def models(request: Request) -> dict[str, Any]:
        key = await authenticate(request)
        return {"object": "list", "data": [_entry(route.alias) for route in routes.of(key.tenant)]}

    @router.get("/v1/models/{model:path}", summary="Show one of them")
    async def model(model: str, request: Request) -> dict[str, Any]:
        key = await authenticate(request)
        return _entry(routes.resolve(key.tenant, model).alias)

    return router


def _entry(alias: Alias) -> dict[str, Any]:
    return {"id": alias.path, "object": "model", "created": int(alias.moved_at.timestamp()), "owned_by": alias.tenant}
