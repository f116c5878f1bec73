"""OpenAI's protocol as a client: bodies of requests, events of streams, refusals, and how an answer begins."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tailorbird.chat.tokenizer import TokenBytes
from tailorbird.domain.errors import Conflict, Exhausted, InvalidInput, NotFound, TailorbirdError, Unavailable
from tailorbird.domain.evidence import TOLD, TokenChances
from tailorbird.domain.prompt import Sampling

#: Seconds: to connect, for an answer.
_CONNECT, _ANSWER = 2.0, 300.0
#: For a quick question.
QUICK = httpx.Timeout(5.0, connect=_CONNECT)
#: Seconds that an idle connection is kept for the next call. Servers close it after five (uvicorn's default, vLLM's among them): a call
#: that is sent in the moment in which the server closes gets no answer.
_KEPT_IDLE = 2.0

#: Where answers are asked for.
CHAT = "/v1/chat/completions"

#: What servers write where a prompt is longer than the context: OpenAI and vLLM, vLLM in other words, tailorbird, llama.cpp.
TOO_LONG = (b"context length", b"context_length_exceeded", b"prompt_too_long", b"exceed_context_size")

#: What tokens are called by their ids; read when it is asked for first.
Names = Callable[[], TokenBytes]
#: How vLLM tells of a token by its id.
_ID = re.compile(r"token_id:([0-9]+)")


def client_for(url: str, key: str) -> httpx.AsyncClient:
    """A client of the server at ``url``; proxies of the environment are not used."""
    return httpx.AsyncClient(
        base_url=url.rstrip("/"),
        headers={"authorization": f"Bearer {key}"} if key else {},
        timeout=httpx.Timeout(_ANSWER, connect=_CONNECT),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=_KEPT_IDLE),
        trust_env=False,
    )


def completion_body(model: str, messages: list[dict[str, Any]], sampling: Sampling) -> dict[str, Any]:
    """What asks for a streamed chat completion."""
    body: dict[str, Any] = {
        "model": model,
        "messages": messages,
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    if sampling.json_schema is not None:
        # What asks for answers that fit a JSON schema (as text; ``{}``: any object).
        wanted = json.loads(sampling.json_schema)
        body["response_format"] = (
            {"type": "json_schema", "json_schema": {"name": "answer", "schema": wanted}} if wanted else {"type": "json_object"}
        )
    return body


@contextmanager
def reached() -> Iterator[None]:
    """A transport that fails is an engine that is away."""
    try:
        yield
    except httpx.RequestError as error:
        raise Unavailable("the engine does not answer", "try again in a few seconds", code="engine_unavailable") from error


def is_ended(error: BaseException | None) -> bool:
    """True where a connection was refused, at the root of an error: a server that is only busy has a listener."""
    if error is None or isinstance(error, ConnectionRefusedError):
        return error is not None
    # A name of several addresses, as localhost has, leaves an error for each.
    within = error.exceptions if isinstance(error, BaseExceptionGroup) else (error.__cause__ or error.__context__,)
    return any(map(is_ended, within))


@contextmanager
def understood() -> Iterator[None]:
    """What is no answer of the protocol, such as a page of a proxy that says 200, is a defect of the server. Raises Unavailable."""
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise Unavailable("the engine answers with something that is not an answer", "look at its log", code="engine_defect") from error


def refusal(status: int, body: bytes) -> TailorbirdError:
    """Error for a refusal of the server. Its words are not passed on: they may quote the prompt."""
    if status == 429:
        return Exhausted("too many requests wait for this model", "try again in a second", code="engine_busy")
    if status in (400, 422) and any(sign in body.lower() for sign in TOO_LONG):
        return InvalidInput("the prompt is longer than the model's context", "shorten the text", code="prompt_too_long")
    if status in (400, 422):
        return InvalidInput("the engine cannot follow this request", "ask with fewer settings")
    if status == 404:
        return NotFound("the engine lacks this model", "load it before asking it")
    return Unavailable(f"the engine answered with status {status}", "look at its log", code="engine_unavailable")


def event_of(line: str) -> dict[str, Any] | None:
    """The event of a line of a stream; None where there is none. Raises Unavailable."""
    data = line.removeprefix("data:").strip()
    if not line.startswith("data:") or data == "[DONE]":
        return None
    event: dict[str, Any] = json.loads(data)
    if "error" in event:
        raise Unavailable("the engine broke off the answer", "try again", code="engine_unavailable")
    return event


async def begun(client: httpx.AsyncClient, asked: dict[str, Any], names: Names | None = None) -> TokenChances:
    """The likeliest first tokens of the answer to one request. ``names`` are the tokens of a server that tells of ids. Raises Conflict
    (``driver_unable``: it tells no log-probabilities, or not of so many), what the server refuses with, and Unavailable
    (``engine_defect``)."""
    plain = {name: value for name, value in asked.items() if name not in ("stream", "stream_options")}
    with reached():
        response = await client.post(CHAT, json=plain | {"logprobs": True, "top_logprobs": TOLD})
    if response.is_error:
        told_no = refusal(response.status_code, response.content)
        if response.status_code not in (400, 422) or told_no.error_code == "prompt_too_long":
            raise told_no
    with understood():
        content = [] if response.is_error else (response.json()["choices"][0].get("logprobs") or {}).get("content") or [{}]
        if len(told := (content and content[0].get("top_logprobs")) or []) < TOLD:
            raise Conflict(
                f"the server does not tell the log-probabilities of the {TOLD} likeliest tokens, by which a release is recognised",
                f"start it with --max-logprobs {TOLD}",
                code="driver_unable",
            )
        top = sorted(told, key=lambda one: -float(one["logprob"]))
        tokens = await asyncio.to_thread(lambda: tuple(_name(one, names) for one in top))
        return TokenChances(tokens=tokens, nats=tuple(float(one["logprob"]) for one in top))


def _name(told: dict[str, Any], names: Names | None) -> str:
    """The bytes of a token, in hexadecimal. What a server writes of half a character or of a control token is not what others write: the
    vocabulary names what is told by its id."""
    if names is not None and (numbered := _ID.fullmatch(str(told["token"]))):
        return names().of(int(numbered[1])).hex()
    return bytes(told["bytes"]).hex() if told.get("bytes") else str(told["token"]).encode().hex()
