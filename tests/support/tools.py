"""A conversation with tools, as rows and requests hold it."""

from __future__ import annotations

from typing import Any

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": f"Looks up an {what}.",
            "parameters": {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]},
        },
    }
    for name, what in (("get_order", "order"), ("get_invoice", "invoice"))
]


def call(name: str, arguments: Any, id_: str = "") -> dict[str, Any]:
    return {"id": id_ or f"call_{name}", "type": "function", "function": {"name": name, "arguments": arguments}}


#: Two calls: one that is answered, and one that is the answer.
CHAT: list[dict[str, Any]] = [
    {"role": "user", "content": "Where is order 7?"},
    {"role": "assistant", "content": None, "tool_calls": [call("get_order", '{"id":  "7"}', "x9")]},
    {"role": "tool", "tool_call_id": "x9", "content": '{"state": "sent"}'},
    {"role": "assistant", "content": "It was sent."},
    {"role": "user", "content": "And order 8?"},
    {"role": "assistant", "content": "", "tool_calls": [call("get_order", {"id": "8", "deep": {"a": [1, True, None]}})]},
]
