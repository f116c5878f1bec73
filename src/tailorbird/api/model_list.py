"""``GET /v1/models``: the names that answer this caller, and no others."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from tailorbird.api.authentication import Authenticator
from tailorbird.api.errors import error_answers
from tailorbird.api.openapi import API_KEY
from tailorbird.api.response_schemas import ModelEntry, ModelList
from tailorbird.domain.deployment import Alias
from tailorbird.domain.identity import Scope
from tailorbird.serving import AliasRoutes


def model_routes(routes: AliasRoutes, authenticate: Authenticator) -> APIRouter:
    """The list, and one entry of it."""
    router = APIRouter(tags=["answer"], dependencies=API_KEY)

    @router.get(
        "/v1/models",
        operation_id="models.list",
        summary="List the models that answer this key.",
        description="The public names of the key's tenant that a release answers now, in OpenAI's shape.",
        response_model=ModelList,
        responses=error_answers(401, 403, 429, 500, 503),
    )
    async def models(request: Request) -> JSONResponse:
        key = await authenticate(request, Scope.ANSWER)
        return JSONResponse(
            {"object": "list", "data": [_entry(route.alias) for route in routes.of(key.tenant) if not route.alias.is_staging]}
        )

    @router.get(
        "/v1/models/{model:path}",
        operation_id="models.show",
        summary="Show one of them.",
        description="One public name: since when it answers, and whose it is. Names of other tenants are unknown.",
        response_model=ModelEntry,
        responses=error_answers(401, 403, 404, 429, 500, 503),
        openapi_extra={"parameters": [{"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}]},
    )
    async def model(request: Request) -> JSONResponse:
        key = await authenticate(request, Scope.ANSWER)
        return JSONResponse(_entry(routes.resolve(key.tenant, request.path_params["model"]).alias))

    return router


def _entry(alias: Alias) -> dict[str, Any]:
    return {"id": alias.path, "object": "model", "created": int(alias.moved_at.timestamp()), "owned_by": alias.tenant}
