"""Answers in OpenAI's response shapes: chat, rankings and embeddings."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

from tailorbird.api.errors import error_body
from tailorbird.api.request_record import RequestRecord
from tailorbird.domain.errors import TailorbirdError
from tailorbird.ports.engine import TokenChance
from tailorbird.serving import AnswerPiece, RankedDocument, TrafficArm

DONE = "data: [DONE]\n\n"


class AnswerFormatter(Protocol):
    """Response format of a route."""

    def whole(self, account: RequestRecord, arm: TrafficArm, pieces: Sequence[AnswerPiece]) -> dict[str, Any]:
        """The whole answer."""
        ...

    def event(self, account: RequestRecord, arm: TrafficArm, piece: AnswerPiece, *, opening: bool) -> str:
        """A piece of the answer as an event; ``opening`` is its first."""
        ...

    def ending(self, account: RequestRecord, arm: TrafficArm, *, usage: bool) -> str:
        """Last events of a stream, once the row is written; with ``usage``, which callers ask for, the token counts."""
        ...


class _Ending:
    """Streams that end with OpenAI's mark, behind the counts as an event without choices."""

    def usage_event(self, account: RequestRecord) -> str:
        """The counts."""
        raise NotImplementedError

    def ending(self, account: RequestRecord, _arm: TrafficArm, *, usage: bool) -> str:
        """The counts where they were asked for, and the mark."""
        return (self.usage_event(account) if usage else "") + DONE


class ChatFormatter(_Ending):
    """``chat.completion``: one conversation, one message."""

    def whole(self, account: RequestRecord, arm: TrafficArm, pieces: Sequence[AnswerPiece]) -> dict[str, Any]:
        """A whole answer."""
        calls = _told_calls(account, pieces[-1])
        text = text_of(pieces)
        message: dict[str, Any] = {"role": "assistant", "content": text if text or not calls else None, "refusal": None}
        message |= {"tool_calls": calls} if calls else {}
        choice = {"index": 0, "message": message, "logprobs": _chances(pieces), "finish_reason": _end_of(pieces[-1])}
        return _frame(account, "chat.completion") | {
            "choices": [choice],
            "usage": _usage(account),
            "tailorbird": origin_of(arm, pieces[-1]),
        }

    def event(self, account: RequestRecord, arm: TrafficArm, piece: AnswerPiece, *, opening: bool) -> str:
        """The first event tells the role, the last one the reason of the end."""
        delta: dict[str, Any] = {"role": "assistant"} if opening else {}
        calls = _told_calls(account, piece)
        if piece.text or (opening and not calls):
            delta["content"] = piece.text
        if calls:
            delta["tool_calls"] = [{"index": place} | call for place, call in enumerate(calls)]
        body = _frame(account, "chat.completion.chunk")
        body["choices"] = [{"index": 0, "delta": delta, "logprobs": _chances([piece]), "finish_reason": _end_of(piece)}]
        if piece.finish_reason is not None:
            body["tailorbird"] = origin_of(arm, piece)
        return _sse(body)

    def usage_event(self, account: RequestRecord) -> str:
        """The counts."""
        return _sse(_frame(account, "chat.completion.chunk") | {"choices": [], "usage": _usage(account)})


class RerankFormatter(_Ending):
    """``rerank``: documents in the order in which they answer the question: those of the release by id and title, or the caller's
    (``given``) by their places, with their texts where ``shown``."""

    def __init__(self, given: Sequence[str] = (), *, shown: bool = True) -> None:
        self._given, self._shown = given, shown

    def _result(self, place: int, one: RankedDocument) -> dict[str, Any]:
        if not self._given:
            return {"index": place, "document": {"id": one.id, "title": one.title}, "relevance_score": one.score}
        own = int(one.id)
        return {"index": own} | ({"document": {"text": self._given[own]}} if self._shown else {}) | {"relevance_score": one.score}

    def whole(self, account: RequestRecord, arm: TrafficArm, pieces: Sequence[AnswerPiece]) -> dict[str, Any]:
        """All documents that were asked for."""
        results = [self._result(place, one) for place, one in enumerate(pieces[-1].ranking)]
        return _frame(account, "rerank") | {"results": results, "usage": _usage(account), "tailorbird": origin_of(arm, pieces[-1])}

    def event(self, account: RequestRecord, arm: TrafficArm, piece: AnswerPiece, *, opening: bool) -> str:
        """A ranking comes whole."""
        del opening
        return _sse(self.whole(account, arm, [piece]))

    def usage_event(self, account: RequestRecord) -> str:
        """The counts."""
        return _sse(_frame(account, "rerank") | {"results": [], "usage": _usage(account)})


class EmbeddingFormatter(_Ending):
    """``list`` of ``embedding``: a vector a text, as numbers or as the base64 of their 32-bit little-endian form, which clients ask for."""

    def __init__(self, encoding: Literal["float", "base64"]) -> None:
        self._encoded: Callable[[Sequence[float]], object] = _packed if encoding == "base64" else list

    def whole(self, account: RequestRecord, arm: TrafficArm, pieces: Sequence[AnswerPiece]) -> dict[str, Any]:
        """All vectors."""
        data = [{"object": "embedding", "index": place, "embedding": self._encoded(v)} for place, v in enumerate(pieces[-1].vectors)]
        usage = {"prompt_tokens": account.answer.prompt_tokens, "total_tokens": account.answer.prompt_tokens}
        return {"object": "list", "data": data, "model": account.alias, "usage": usage, "tailorbird": origin_of(arm, pieces[-1])}

    def event(self, account: RequestRecord, arm: TrafficArm, piece: AnswerPiece, *, opening: bool) -> str:
        """Vectors come whole."""
        del opening
        return _sse(self.whole(account, arm, [piece]))

    def usage_event(self, account: RequestRecord) -> str:
        """The counts."""
        return _sse({"object": "list", "data": [], "model": account.alias, "usage": _usage(account)})


def _packed(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def error_event(error: TailorbirdError) -> str:
    """An error in the middle of a stream."""
    return _sse(error_body(error))


def text_of(pieces: Sequence[AnswerPiece]) -> str:
    """The text of an answer."""
    return "".join(piece.text for piece in pieces)


def _told_calls(account: RequestRecord, piece: AnswerPiece) -> list[dict[str, Any]]:
    """The calls of a piece, each with a name of its own by which its result is sent back."""
    return [
        {"id": f"call_{account.request_id}_{place}", "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for place, call in enumerate(piece.tool_calls)
    ]


def _end_of(piece: AnswerPiece) -> str | None:
    return "tool_calls" if piece.tool_calls and piece.finish_reason == "stop" else piece.finish_reason


def origin_of(arm: TrafficArm, last: AnswerPiece) -> dict[str, Any]:
    """Fields below ``tailorbird`` of an answer whose last piece is ``last``."""
    origin: dict[str, Any] = {"release": arm.release, "arm": arm.name} | ({"referred": True} if last.referred else {})
    origin |= {"out_of_scope": True} if last.out_of_scope else {}
    if last.passages:
        origin["passages"] = [{"id": one.id, "title": one.title} for one in last.passages]
    return origin if last.probabilities is None else origin | {"probabilities": last.probabilities}


def _frame(account: RequestRecord, kind: str) -> dict[str, Any]:
    return {"id": account.request_id, "object": kind, "created": account.created, "model": account.alias}


def _usage(account: RequestRecord) -> dict[str, Any]:
    read, written = account.answer.prompt_tokens, account.answer.completion_tokens
    counts: dict[str, Any] = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
    details = {"completion_tokens_details": {"reasoning_tokens": account.answer.reasoning_tokens}}
    return counts | {"prompt_tokens_details": {"cached_tokens": account.answer.cached_tokens}} | details


def _chances(pieces: Sequence[AnswerPiece]) -> dict[str, Any] | None:
    """Log-probabilities of tokens as OpenAI tells them; None where there are none."""
    tokens = [chance for piece in pieces for chance in piece.logprobs]
    if not tokens:
        return None
    told = [_chance(chance) | {"top_logprobs": list(map(_chance, chance.top))} for chance in tokens]
    return {"content": told, "refusal": None}


def _chance(chance: TokenChance) -> dict[str, Any]:
    return {"token": chance.token, "logprob": chance.logprob, "bytes": list(chance.bytes)}


def _sse(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n"
