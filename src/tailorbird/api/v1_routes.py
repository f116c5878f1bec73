"""Routes of ``/v1``: models, chat completions, completions, responses, embeddings and rerank."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from tailorbird.api import generation_requests, responses, retrieval_requests
from tailorbird.api.answer_endpoint import AnswerContext, RouteBehaviour, answer_in
from tailorbird.api.authentication import Authenticator, demand_stage
from tailorbird.api.errors import error_answers
from tailorbird.api.openapi import API_KEY
from tailorbird.api.request_base import ParameterRules, RequestBase
from tailorbird.api.response_formats import ChatFormatter, EmbeddingFormatter, RerankFormatter
from tailorbird.api.response_schemas import (
    STREAM,
    ChatCompletion,
    EmbeddingList,
    ModelEntry,
    ModelList,
    ModelResponse,
    Ranking,
)
from tailorbird.api.responses import ResponsesFormatter
from tailorbird.domain.deployment import Alias
from tailorbird.domain.identity import Scope
from tailorbird.serving import AliasRoutes, Answers, AnswerService


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
            {"object": "list", "data": [_entry(route.alias) for route in routes.of(key.tenant) if route.alias.stage == "production"]}
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
        model = request.path_params["model"]
        demand_stage(key, model)
        return JSONResponse(_entry(routes.resolve(key.tenant, model).alias))

    return router


def _entry(alias: Alias) -> dict[str, Any]:
    return {"id": alias.path, "object": "model", "created": int(alias.moved_at.timestamp()), "owned_by": alias.tenant}


def _vectors_as_asked(body: RequestBase) -> EmbeddingFormatter:
    assert isinstance(body, retrieval_requests.EmbeddingBody)
    return EmbeddingFormatter(body.encoding_format)


def _documents_as_asked(body: RequestBase) -> RerankFormatter:
    assert isinstance(body, retrieval_requests.RerankBody)
    return RerankFormatter(body.texts, shown=body.return_documents is not False)


def _ranked_as_asked(answering: AnswerService, body: RequestBase) -> Answers:
    assert isinstance(body, retrieval_requests.RerankBody)
    return partial(answering.ranked, body.texts) if body.texts else answering.pieces


def _response_as_asked(body: RequestBase) -> ResponsesFormatter:
    assert isinstance(body, responses.ResponseBody)
    return ResponsesFormatter(body)


@dataclass(frozen=True)
class _Endpoint:
    """A route with its description in OpenAPI: the ``rules`` and the ``body`` of its requests, and the model of its ``answer``."""

    behaviour: RouteBehaviour
    operation: str
    summary: str
    description: str
    answer: type[BaseModel]
    rules: ParameterRules
    body: type[RequestBase]


_ENDPOINTS = (
    _Endpoint(
        RouteBehaviour("/v1/chat/completions", generation_requests.parse_chat, lambda _: ChatFormatter()),
        "chat.complete",
        "Answer a conversation.",
        "Answers the last message of the user, as OpenAI's chat completions do: a release that classifies with a label and its "
        "probabilities (under `tailorbird`), one that generates with text, whole or streamed. `model` is `TENANT/NAME` of an objective, or "
        "`TENANT/NAME@staging` for what is tried in staging, by keys with the scope `staging`.",
        ChatCompletion,
        generation_requests.CHAT_PARAMETERS,
        generation_requests.ChatBody,
    ),
    _Endpoint(
        RouteBehaviour("/v1/responses", responses.parse_response, _response_as_asked),
        "responses.create",
        "Answer in the form of OpenAI's newer API.",
        "The stateless form of OpenAI's responses: text or messages in, text and calls of functions out, whole or as events. Nothing is "
        "kept between requests, so that `previous_response_id`, `conversation`, `background` and `store: true` are refused.",
        ModelResponse,
        responses.RESPONSE_PARAMETERS,
        responses.ResponseBody,
    ),
    _Endpoint(
        RouteBehaviour("/v1/rerank", retrieval_requests.parse_rerank, _documents_as_asked, _ranked_as_asked),
        "documents.rank",
        "Rank documents for a question.",
        "Ranks the `documents` that are sent (the shape of Cohere and Jina, which vLLM serves too) in the way in which the "
        "release ranks its own, or, without them, the release's own documents that the key may read. Scores can be compared within one "
        "answer, and with nothing else.",
        Ranking,
        retrieval_requests.RERANK_PARAMETERS,
        retrieval_requests.RerankBody,
    ),
    _Endpoint(
        RouteBehaviour("/v1/embeddings", retrieval_requests.parse_embedding, _vectors_as_asked, lambda answering, _: answering.vectors),
        "texts.embed",
        "Texts as vectors, as a release that ranks documents reads them.",
        "Up to 256 texts as vectors of length 1, by the encoder that the release reads questions with.",
        EmbeddingList,
        retrieval_requests.EMBEDDING_PARAMETERS,
        retrieval_requests.EmbeddingBody,
    ),
)


def chat_routes(chat: AnswerContext, authenticate: Authenticator) -> APIRouter:
    """Routes of all five answer endpoints."""
    told = error_answers(400, 401, 403, 404, 413, 429, 500, 503) | {200: {"content": STREAM}}
    router = APIRouter(tags=["answer"], dependencies=API_KEY, responses=told)
    for endpoint in _ENDPOINTS:
        router.add_api_route(
            endpoint.behaviour.path,
            answer_in(endpoint.behaviour, chat, authenticate),
            methods=["POST"],
            operation_id=endpoint.operation,
            summary=endpoint.summary,
            description=endpoint.description,
            response_model=endpoint.answer,
            openapi_extra={"requestBody": endpoint.rules.described(endpoint.body)},
        )
    return router
