"""``GET /v1/models``: the names that answer this caller, and no others.

In: a key. Out: OpenAI's list of models. Must not know: releases that do not answer.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends

from tailorbird.api.authentication import Authenticator
from tailorbird.domain.deployment import Alias
from tailorbird.domain.identity import ApiKey
from tailorbird.serving import Routes


def model_routes(routes: Routes, authenticate: Authenticator) -> APIRouter:
    """The list, and one entry of it."""
    router = APIRouter()
    Key = Annotated[ApiKey, Depends(authenticate)]

    @router.get("/v1/models", summary="List the models that answer this key")
    async def models(key: Key) -> dict[str, Any]:
        return {"object": "list", "data": [_entry(route.alias) for route in routes.of(key.tenant)]}

    @router.get("/v1/models/{model:path}", summary="Show one of them")
    async def model(model: str, key: Key) -> dict[str, Any]:
        return _entry(routes.resolve(key.tenant, model).alias)

    return router


def _entry(alias: Alias) -> dict[str, Any]:
    return {"id": alias.path, "object": "model", "created": int(alias.moved_at.timestamp()), "owned_by": alias.tenant}
