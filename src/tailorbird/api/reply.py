"""Answers in OpenAI's shape.

In: an account and pieces of an answer. Out: a ``chat.completion`` object, or ``chat.completion.chunk`` events as server-sent events. What
OpenAI has no word for (release, arm, probabilities) stands under ``tailorbird``. Must not know: how an answer is made or recorded.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tailorbird.api.account import Account
from tailorbird.api.errors import error_body
from tailorbird.domain.errors import TailorbirdError
from tailorbird.serving import Arm, Piece

DONE = "data: [DONE]\n\n"


def completion(account: Account, arm: Arm, pieces: Sequence[Piece]) -> dict[str, Any]:
    """A whole answer."""
    last = pieces[-1]
    message = {"role": "assistant", "content": "".join(piece.text for piece in pieces), "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": last.finish_reason}
    return _frame(account, "chat.completion") | {"choices": [choice], "usage": _usage(account), "tailorbird": _extra(arm, last)}


def event(account: Account, arm: Arm, piece: Piece, *, opening: bool = False) -> str:
    """A piece of an answer as an event; the first one tells the role, the last one the reason of the end."""
    delta: dict[str, Any] = {"role": "assistant"} if opening else {}
    if piece.text or opening:
        delta["content"] = piece.text
    body = _frame(account, "chat.completion.chunk")
    body["choices"] = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": piece.finish_reason}]
    if piece.finish_reason is not None:
        body["tailorbird"] = _extra(arm, piece)
    return _sse(body)


def usage_event(account: Account) -> str:
    """The token counts as an event without choices, for callers that asked for it."""
    return _sse(_frame(account, "chat.completion.chunk") | {"choices": [], "usage": _usage(account)})


def error_event(error: TailorbirdError) -> str:
    """An error in the middle of a stream."""
    return _sse(error_body(error))


def _frame(account: Account, kind: str) -> dict[str, Any]:
    return {"id": account.request_id, "object": kind, "created": account.created, "model": account.alias}


def _usage(account: Account) -> dict[str, int]:
    read, written = account.prompt_tokens, account.completion_tokens
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _extra(arm: Arm, last: Piece) -> dict[str, Any]:
    extra: dict[str, Any] = {"release": arm.release, "arm": arm.name}
    return extra if last.probabilities is None else extra | {"probabilities": last.probabilities}


def _sse(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n"
