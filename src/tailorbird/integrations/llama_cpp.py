"""Driver for llama.cpp's server: prompts go there as tokens, and adapters are found by the release that their files name."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from tailorbird.domain.deployment import Servable
from tailorbird.domain.effect import TOLD, TokenChances
from tailorbird.domain.errors import Conflict
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.domain.value import Digest
from tailorbird.integrations.openai_compatible import Admit, OpenAiDriver, answers_plainly, client_for, unsupported
from tailorbird.ports.engine import Chunk, OutsideDriver, ProbeRequest
from tailorbird.text.chat_tokenizer import ChatTokenizer

#: A text in which tokenizers differ: a server that reads other tokens here has another base.
_PROBE = "I'm sure THEY'RE 12345 times naïve,\n\n  \t你好 🙂 — in camelCase!"
_SAID = "start llama-server with files that tailorbird export --format gguf wrote"
#: Seconds for which it is known what the server holds: adapters are asked for by number, and a server that was started again has others.
_KNOWN_FOR = 1.0


class _Holdings(NamedTuple):
    """What the server holds: the numbers of its adapters, each with the release that the file names, and the names of its one model."""

    adapters: tuple[tuple[int, str], ...]
    names: frozenset[str]


class _Served(NamedTuple):
    """What a release is at the server: how its prompts are read, the adapter's number (None: the weights as they are), and what the server
    held when it was found there."""

    chat: ChatTokenizer
    adapter: int | None
    found_in: _Holdings

    @property
    def off(self) -> dict[int, float]:
        """Every adapter of the server, at scale 0."""
        return dict.fromkeys((number for number, _ in self.found_in.adapters), 0.0)


def open_driver(url: str, key: str, model: str, admit: Admit) -> OutsideDriver:
    """A driver for the llama.cpp server at ``url``, which serves the base as ``model``. Nothing is sent until the first call.

    Each request has a connection of its own: the server closes one after five, also while the next request is on its way.
    """
    return LlamaCppDriver(client_for(url, key, kept=0), model, admit)


class LlamaCppDriver(OpenAiDriver):
    """Implements ``OutsideDriver`` over llama.cpp's own routes.

    The server holds one model. A release with an adapter is served where the server was started with its file, which names the release;
    a merged model, or whole weights, where the server calls its model (``--alias``) by the digest of the release; a prompt where it calls
    it as the settings do. Every request says which adapter it is for, and how tokens are drawn: the server's own defaults are others.
    Nothing of a prompt is remembered there, since its memory of prompts knows no tenants.
    """

    _route = "/completion"

    def __init__(self, client: httpx.AsyncClient, model: str, admit: Admit) -> None:
        super().__init__(client, model, admit)
        self._served: dict[Digest, _Served] = {}
        self._known_at = float("-inf")

    async def loaded(self) -> tuple[Digest, ...]:
        """As ``OpenAiDriver.loaded``. A server that holds other adapters, in another order or under other names, was started again: what
        was found in the former one is forgotten."""
        asked_at, holdings = time.monotonic(), await self._holdings()
        for release in [release for release, served in self._served.items() if served.found_in != holdings]:
            self._servables.pop(release, None)
            del self._served[release]
        self._known_at = asked_at
        return tuple(self._servables)

    async def unload(self, release: Digest) -> None:
        """Forgets a release; the server keeps its files."""
        await super().unload(release)
        self._served.pop(release, None)

    async def probe(self, request: ProbeRequest) -> list[TokenChances] | None:
        """As ``OpenAiDriver.probe``. The base is asked by the same server, with every adapter at scale 0; that of a merged model is not
        there, so None."""
        servable = self._find(request.release)
        served = self._served[servable.id]
        if request.bare and servable.adapter is not None and served.adapter is None:
            return None
        bodies = [self._asked(servable, prompt, Sampling(max_tokens=1)) for prompt in request.prompts]
        off = {"lora": _scales(served.off)} if request.bare else {}
        told = await asyncio.gather(*(self._post(self._route, body | off | {"stream": False, "n_probs": TOLD}) for body in bodies))
        return [_begins(one) for one in told]

    async def stream(
        self, release: Digest, prompt: Sequence[Message], sampling: Sampling, groups: frozenset[str] = frozenset()
    ) -> AsyncGenerator[Chunk, None]:
        """As ``OpenAiDriver.stream``; NotFound too where the server was started again with other files: the number of a release's adapter
        may be that of another tenant's."""
        if time.monotonic() - self._known_at > _KNOWN_FOR:
            await self.loaded()
        async with aclosing(super().stream(release, prompt, sampling, groups)) as pieces:
            async for piece in pieces:
                yield piece

    async def _prepare(self, servable: Servable) -> None:
        """Finds the release at the server. Conflict (``driver_unable``) where it is not there, or the server has another base."""
        if not answers_plainly(servable):
            raise unsupported()
        holdings = await self._holdings()
        numbers = [number for number, named in holdings.adapters if named == servable.id]
        if servable.adapter and numbers:
            adapter = numbers[0]
        elif (servable.id if servable.adapter or servable.weights else self._model) in holdings.names:
            adapter = None
        else:
            raise Conflict("llama.cpp's server does not hold this release", _SAID, code="driver_unable")
        chat = await asyncio.to_thread(ChatTokenizer, Path(servable.weights or servable.base))
        read = await self._post("/tokenize", {"content": _PROBE, "add_special": False, "parse_special": False})
        if read["tokens"] != chat.tokenizer.encode(_PROBE, add_special_tokens=False).ids:
            raise Conflict("llama.cpp's server reads texts as other tokens than the release's base", _SAID, code="driver_unable")
        self._served[servable.id] = _Served(chat, adapter, holdings)

    async def _holdings(self) -> _Holdings:
        files, models = await asyncio.gather(self._get("/lora-adapters"), self._get("/v1/models"))
        adapters = tuple((each["id"], each.get("task_name") or "") for each in files.json())
        return _Holdings(adapters, frozenset(name for model in models.json()["data"] for name in (model["id"], *model.get("aliases", ()))))

    def _asked(self, servable: Servable, prompt: Sequence[Message], sampling: Sampling) -> dict[str, Any]:
        served = self._served[servable.id]
        (tokens,) = served.chat.prompts([prompt])
        asked: dict[str, Any] = {
            "prompt": tokens,
            "n_predict": sampling.max_tokens,
            "samplers": ["temperature", "top_k", "top_p"],
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            "stop": list(sampling.stop),
            "stream": True,
            "cache_prompt": False,
            "lora": _scales(served.off | ({} if served.adapter is None else {served.adapter: 1.0})),
        }
        if sampling.json_schema is not None:
            asked["json_schema"] = json.loads(sampling.json_schema) or {"type": "object"}
        return asked

    def _read(self, event: dict[str, Any], last: dict[str, Any]) -> str:
        """The text of an event; what it says of the answer's end is kept in ``last``."""
        if event.get("stop"):
            read, written = event["tokens_evaluated"], event["tokens_predicted"]
            last["reason"] = "length" if event["stop_type"] == "limit" else "stop"
            last["usage"] = {"prompt_tokens": read, "completion_tokens": written}
        text: str = event.get("content") or ""
        return text


def _scales(scales: Mapping[int, float]) -> list[dict[str, float]]:
    return [{"id": number, "scale": scale} for number, scale in scales.items()]


def _begins(told: dict[str, Any]) -> TokenChances:
    """The likeliest first tokens that an answer tells of; the chosen one without a number where it tells of none."""
    first = (told.get("completion_probabilities") or [{}])[0]
    top = sorted(first.get("top_logprobs") or (), key=lambda one: -float(one["logprob"]))
    if not top:
        return TokenChances(tokens=(str(told.get("content") or "").encode().hex(),), nats=())
    return TokenChances(tokens=tuple(bytes(one["bytes"]).hex() for one in top), nats=tuple(float(one["logprob"]) for one in top))
