"""The routes that answer: ``POST /v1/chat/completions``, ``POST /v1/completions`` for callers of OpenAI's older form, and
``POST /v1/rerank`` and ``POST /v1/embeddings`` for releases that rank documents.

In: what answering needs. Out: the routes. Must not know: how an answer comes about (``asking.py``).
"""

from __future__ import annotations

from fastapi import APIRouter

from tailorbird.api import chat_body, completion_body, embedding_body, rerank_body
from tailorbird.api.answers import STREAM, ChatCompletion, EmbeddingList, Ranking, TextCompletion
from tailorbird.api.asked import Asked
from tailorbird.api.asking import Chat, Manner, answer_in
from tailorbird.api.authentication import Authenticator
from tailorbird.api.documenting import API_KEY
from tailorbird.api.errors import error_answers
from tailorbird.api.reply import ChatWording, EmbeddingWording, RankWording, TextWording


def _vectors_as_asked(body: Asked) -> EmbeddingWording:
    assert isinstance(body, embedding_body.EmbeddingBody)
    return EmbeddingWording(body.encoding_format)


_CHAT = Manner("/v1/chat/completions", chat_body.parse_chat, lambda _: ChatWording())
_TEXT = Manner("/v1/completions", completion_body.parse_completion, lambda _: TextWording())
_RANK = Manner("/v1/rerank", rerank_body.parse_rerank, lambda _: RankWording())
_EMBED = Manner("/v1/embeddings", embedding_body.parse_embedding, _vectors_as_asked, lambda answering: answering.vectors)


def chat_routes(chat: Chat, authenticate: Authenticator) -> APIRouter:
    """All four."""
    told = error_answers(400, 401, 403, 404, 413, 429, 500, 503) | {200: {"content": STREAM}}
    router = APIRouter(tags=["answer"], dependencies=API_KEY, responses=told)
    router.add_api_route(
        _CHAT.path,
        answer_in(_CHAT, chat, authenticate),
        methods=["POST"],
        operation_id="chat.complete",
        summary="Answer a conversation.",
        response_model=ChatCompletion,
        openapi_extra={"requestBody": chat_body.WORDS.described(chat_body.ChatBody)},
    )
    router.add_api_route(
        _TEXT.path,
        answer_in(_TEXT, chat, authenticate),
        methods=["POST"],
        operation_id="text.complete",
        summary="Answer texts, each for itself.",
        response_model=TextCompletion,
        openapi_extra={"requestBody": completion_body.WORDS.described(completion_body.CompletionBody)},
    )
    router.add_api_route(
        _RANK.path,
        answer_in(_RANK, chat, authenticate),
        methods=["POST"],
        operation_id="documents.rank",
        summary="Rank the documents of a release.",
        response_model=Ranking,
        openapi_extra={"requestBody": rerank_body.WORDS.described(rerank_body.RerankBody)},
    )
    router.add_api_route(
        _EMBED.path,
        answer_in(_EMBED, chat, authenticate),
        methods=["POST"],
        operation_id="texts.embed",
        summary="Texts as vectors, as a release that ranks documents reads them.",
        response_model=EmbeddingList,
        openapi_extra={"requestBody": embedding_body.WORDS.described(embedding_body.EmbeddingBody)},
    )
    return router
