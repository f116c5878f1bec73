"""The routes that answer: ``POST /v1/chat/completions``, ``POST /v1/responses`` and ``POST /v1/completions`` for callers of OpenAI's newer
and older forms, and ``POST /v1/rerank`` and ``POST /v1/embeddings`` for releases that rank documents.

In: what answering needs. Out: the routes. Must not know: how an answer comes about (``asking.py``).
"""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter

from tailorbird.api import chat_body, completion_body, embedding_body, rerank_body, response_body
from tailorbird.api.answers import STREAM, ChatCompletion, EmbeddingList, ModelResponse, Ranking, TextCompletion
from tailorbird.api.asked import Asked
from tailorbird.api.asking import Answers, Chat, Manner, answer_in
from tailorbird.api.authentication import Authenticator
from tailorbird.api.documenting import API_KEY
from tailorbird.api.errors import error_answers
from tailorbird.api.reply import ChatWording, EmbeddingWording, RankWording, TextWording
from tailorbird.api.response_wording import ResponseWording
from tailorbird.serving import Answering


def _vectors_as_asked(body: Asked) -> EmbeddingWording:
    assert isinstance(body, embedding_body.EmbeddingBody)
    return EmbeddingWording(body.encoding_format)


def _documents_as_asked(body: Asked) -> RankWording:
    assert isinstance(body, rerank_body.RerankBody)
    return RankWording(body.texts, shown=body.return_documents is not False)


def _ranked_as_asked(answering: Answering, body: Asked) -> Answers:
    assert isinstance(body, rerank_body.RerankBody)
    return partial(answering.ranked, body.texts) if body.texts else answering.pieces


def _response_as_asked(body: Asked) -> ResponseWording:
    assert isinstance(body, response_body.ResponseBody)
    return ResponseWording(body)


_CHAT = Manner("/v1/chat/completions", chat_body.parse_chat, lambda _: ChatWording())
_TEXT = Manner("/v1/completions", completion_body.parse_completion, lambda _: TextWording())
_RESPONSE = Manner("/v1/responses", response_body.parse_response, _response_as_asked)
_RANK = Manner("/v1/rerank", rerank_body.parse_rerank, _documents_as_asked, _ranked_as_asked)
_EMBED = Manner("/v1/embeddings", embedding_body.parse_embedding, _vectors_as_asked, lambda answering, _: answering.vectors)


def chat_routes(chat: Chat, authenticate: Authenticator) -> APIRouter:
    """All five."""
    told = error_answers(400, 401, 403, 404, 413, 429, 500, 503) | {200: {"content": STREAM}}
    router = APIRouter(tags=["answer"], dependencies=API_KEY, responses=told)
    router.add_api_route(
        _CHAT.path,
        answer_in(_CHAT, chat, authenticate),
        methods=["POST"],
        operation_id="chat.complete",
        summary="Answer a conversation.",
        description="Answers the last message of the user, as OpenAI's chat completions do: a release that classifies with a label and its "
        "probabilities (under `tailorbird`), one that generates with text, whole or streamed. `model` is `TENANT/NAME` of an objective.",
        response_model=ChatCompletion,
        openapi_extra={"requestBody": chat_body.WORDS.described(chat_body.ChatBody)},
    )
    router.add_api_route(
        _TEXT.path,
        answer_in(_TEXT, chat, authenticate),
        methods=["POST"],
        operation_id="text.complete",
        summary="Answer texts, each for itself.",
        description="OpenAI's older form: a text or up to 16 of them, each taken as a user's only message. Every answer leaves a row of "
        "its own in the record.",
        response_model=TextCompletion,
        openapi_extra={"requestBody": completion_body.WORDS.described(completion_body.CompletionBody)},
    )
    router.add_api_route(
        _RESPONSE.path,
        answer_in(_RESPONSE, chat, authenticate),
        methods=["POST"],
        operation_id="responses.create",
        summary="Answer in the form of OpenAI's newer API.",
        description="The stateless form of OpenAI's responses: text or messages in, text out, whole or as events. Nothing is kept between "
        "requests, so that `previous_response_id`, `conversation`, `background` and `store: true` are refused.",
        response_model=ModelResponse,
        openapi_extra={"requestBody": response_body.WORDS.described(response_body.ResponseBody)},
    )
    router.add_api_route(
        _RANK.path,
        answer_in(_RANK, chat, authenticate),
        methods=["POST"],
        operation_id="documents.rank",
        summary="Rank documents for a question.",
        description="Ranks the `documents` that are sent (the shape of Cohere and Jina, which vLLM serves too) in the way in which the "
        "release ranks its own, or, without them, the release's own documents that the key may read. Scores can be compared within one "
        "answer, and with nothing else.",
        response_model=Ranking,
        openapi_extra={"requestBody": rerank_body.WORDS.described(rerank_body.RerankBody)},
    )
    router.add_api_route(
        _EMBED.path,
        answer_in(_EMBED, chat, authenticate),
        methods=["POST"],
        operation_id="texts.embed",
        summary="Texts as vectors, as a release that ranks documents reads them.",
        description="Up to 256 texts as vectors of length 1, by the encoder that the release reads questions with.",
        response_model=EmbeddingList,
        openapi_extra={"requestBody": embedding_body.WORDS.described(embedding_body.EmbeddingBody)},
    )
    return router
