"""Answers in the form of OpenAI's responses API, whole or as its events.

In: what was asked, an account and pieces of an answer. Out: a response; server-sent events in their order. Must not know: how an answer is
made or recorded.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tailorbird.api.account import Account
from tailorbird.api.reply import origin_of, text_of
from tailorbird.api.response_body import ResponseBody
from tailorbird.serving import Arm, Piece


class ResponseWording:
    """``response``: one message with one text. Made for one request: events are numbered."""

    def __init__(self, body: ResponseBody) -> None:
        self._body = body
        self._number = 0
        self._pieces: list[Piece] = []

    def whole(self, account: Account, arm: Arm, answers: Sequence[Sequence[Piece]]) -> dict[str, Any]:
        """A whole answer."""
        (pieces,) = answers
        return self._ended(account, arm, pieces)

    def event(self, account: Account, arm: Arm, index: int, piece: Piece, *, opening: bool) -> str:
        """The first piece comes behind the events that open response, message and text."""
        del index, arm
        self._pieces.append(piece)
        told = self._opening(account) if opening else ""
        if piece.text:
            told += self._event("response.output_text.delta", **_PLACE, item_id=_item(account), delta=piece.text, logprobs=[])
        return told

    def ending(self, account: Account, arm: Arm, *, usage: bool) -> str:
        """The events that close text, message and response, which always counts the tokens."""
        del usage
        text, response = text_of(self._pieces), self._ended(account, arm, self._pieces)
        (message,) = response["output"]
        return (
            self._event("response.output_text.done", **_PLACE, item_id=message["id"], text=text, logprobs=[])
            + self._event("response.content_part.done", **_PLACE, item_id=message["id"], part=message["content"][0])
            + self._event("response.output_item.done", output_index=0, item=message)
            + self._event(f"response.{response['status']}", response=response)
        )

    def _opening(self, account: Account) -> str:
        begun = self._frame(account, "in_progress") | {"output": [], "usage": None}
        return (
            self._event("response.created", response=begun)
            + self._event("response.in_progress", response=begun)
            + self._event("response.output_item.added", output_index=0, item=_message(account, "in_progress", []))
            + self._event("response.content_part.added", **_PLACE, item_id=_item(account), part=_part(""))
        )

    def _ended(self, account: Account, arm: Arm, pieces: Sequence[Piece]) -> dict[str, Any]:
        status = "incomplete" if pieces[-1].finish_reason == "length" else "completed"
        return self._frame(account, status) | {
            "output": [_message(account, status, [_part(text_of(pieces))])],
            "usage": _usage(account),
            "tailorbird": origin_of(arm, pieces[-1]),
        }

    def _frame(self, account: Account, status: str) -> dict[str, Any]:
        body = self._body
        form = body.text.format if body.text else None
        return {
            "id": account.request_id,
            "object": "response",
            "created_at": account.created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": body.instructions,
            "max_output_tokens": body.token_limit,
            "metadata": body.metadata or {},
            "model": account.alias,
            "parallel_tool_calls": False,
            "previous_response_id": None,
            "store": False,
            "temperature": body.temperature or 0.0,
            "text": {"format": form.model_dump(by_alias=True, exclude_none=True) if form else {"type": "text"}},
            "tool_choice": "none",
            "tools": [],
            "top_p": body.top_p or 1.0,
            "truncation": "disabled",
        }

    def _event(self, kind: str, **fields: Any) -> str:
        body = {"type": kind, "sequence_number": self._number} | fields
        self._number += 1
        return f"event: {kind}\ndata: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n"


#: Where the only text stands.
_PLACE = {"output_index": 0, "content_index": 0}


def _item(account: Account) -> str:
    return f"msg_{account.request_id}"


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []}


def _message(account: Account, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": _item(account), "type": "message", "role": "assistant", "status": status, "content": content}


def _usage(account: Account) -> dict[str, Any]:
    read, written = account.prompt_tokens, account.completion_tokens
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": account.cached_tokens},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read + written,
    }
