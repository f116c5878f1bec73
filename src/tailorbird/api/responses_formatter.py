"""Answers in the shape of OpenAI's responses API: whole, or as numbered events."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tailorbird.api.request_record import RequestRecord
from tailorbird.api.response_formats import origin_of, text_of
from tailorbird.api.responses_request import ResponseBody
from tailorbird.domain.prompt import ToolCall
from tailorbird.serving import AnswerPiece, TrafficArm


class ResponsesFormatter:
    """``response``: one message with one text, then the calls of functions; without a text, the calls alone. Made for one request: events
    are numbered."""

    def __init__(self, body: ResponseBody) -> None:
        self._body = body
        self._number = 0
        self._pieces: list[AnswerPiece] = []
        self._writes = False

    def whole(self, account: RequestRecord, arm: TrafficArm, pieces: Sequence[AnswerPiece]) -> dict[str, Any]:
        """A whole answer."""
        return self._ended(account, arm, pieces)

    def event(self, account: RequestRecord, arm: TrafficArm, piece: AnswerPiece, *, opening: bool) -> str:
        """The first piece comes behind the events that open the response, the first text behind those that open message and text."""
        del arm
        self._pieces.append(piece)
        told = self._opening(account) if opening else ""
        if piece.text:
            told += "" if self._writes else self._message_opening(account)
            told += self._event("response.output_text.delta", **_PLACE, item_id=_item(account), delta=piece.text, logprobs=[])
        return told

    def ending(self, account: RequestRecord, arm: TrafficArm, *, usage: bool) -> str:
        """The events that close text and message, tell the calls and close the response, which always counts the tokens."""
        del usage
        text, response = text_of(self._pieces), self._ended(account, arm, self._pieces)
        told = ""
        for place, item in enumerate(response["output"]):
            if item["type"] == "function_call":
                told += self._call_events(place, item)
                continue
            told += "" if self._writes else self._message_opening(account)
            told += self._event("response.output_text.done", **_PLACE, item_id=item["id"], text=text, logprobs=[])
            told += self._event("response.content_part.done", **_PLACE, item_id=item["id"], part=item["content"][0])
            told += self._event("response.output_item.done", output_index=place, item=item)
        return told + self._event(f"response.{response['status']}", response=response)

    def _opening(self, account: RequestRecord) -> str:
        begun = self._frame(account, "in_progress") | {"output": [], "usage": None}
        return self._event("response.created", response=begun) + self._event("response.in_progress", response=begun)

    def _message_opening(self, account: RequestRecord) -> str:
        self._writes = True
        return self._event("response.output_item.added", output_index=0, item=_message(account, "in_progress", [])) + self._event(
            "response.content_part.added", **_PLACE, item_id=_item(account), part=_part("")
        )

    def _call_events(self, place: int, item: dict[str, Any]) -> str:
        """A call comes whole: its arguments in one piece."""
        at = {"output_index": place, "item_id": item["id"]}
        begun = item | {"arguments": "", "status": "in_progress"}
        return (
            self._event("response.output_item.added", output_index=place, item=begun)
            + self._event("response.function_call_arguments.delta", **at, delta=item["arguments"])
            + self._event("response.function_call_arguments.done", **at, name=item["name"], arguments=item["arguments"])
            + self._event("response.output_item.done", output_index=place, item=item)
        )

    def _ended(self, account: RequestRecord, arm: TrafficArm, pieces: Sequence[AnswerPiece]) -> dict[str, Any]:
        status = "incomplete" if pieces[-1].finish_reason == "length" else "completed"
        text, calls = text_of(pieces), [_call(account, place, call) for place, call in enumerate(pieces[-1].tool_calls)]
        message = [_message(account, status, [_part(text)])] if text or not calls else []
        return self._frame(account, status) | {
            "output": [*message, *calls],
            "usage": _response_usage(account),
            "tailorbird": origin_of(arm, pieces[-1]),
        }

    def _frame(self, account: RequestRecord, status: str) -> dict[str, Any]:
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
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": None,
            "store": False,
            "temperature": body.temperature or 0.0,
            "text": {"format": form.model_dump(by_alias=True, exclude_none=True) if form else {"type": "text"}},
            "tool_choice": _chosen(body),
            "tools": body.tools or [],
            "top_p": body.top_p or 1.0,
            "truncation": "disabled",
        }

    def _event(self, kind: str, **fields: Any) -> str:
        body = {"type": kind, "sequence_number": self._number} | fields
        self._number += 1
        return f"event: {kind}\ndata: {json.dumps(body, ensure_ascii=False, separators=(',', ':'))}\n\n"


#: Where the only text stands.
_PLACE = {"output_index": 0, "content_index": 0}


def _item(account: RequestRecord) -> str:
    return f"msg_{account.request_id}"


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": []}


def _message(account: RequestRecord, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": _item(account), "type": "message", "role": "assistant", "status": status, "content": content}


def _call(account: RequestRecord, place: int, call: ToolCall) -> dict[str, Any]:
    """A call with the name by which its result is sent back."""
    own = f"{account.request_id}_{place}"
    told = {"call_id": f"call_{own}", "name": call.name, "arguments": call.arguments}
    return {"id": f"fc_{own}", "type": "function_call", "status": "completed", **told}


def _chosen(body: ResponseBody) -> Any:
    """The choice among functions as it was asked for."""
    chosen = body.tool_choice or "auto"
    return chosen if isinstance(chosen, str) else chosen.model_dump()


def _response_usage(account: RequestRecord) -> dict[str, Any]:
    read, written = account.answer.prompt_tokens, account.answer.completion_tokens
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": account.answer.cached_tokens},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": account.answer.reasoning_tokens},
        "total_tokens": read + written,
    }
