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
from tailorbird.domain.errors import Conflict, NotFound
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.domain.value import Digest
from tailorbird.integrations.openai_compatible import Admit, OpenAiDriver, answers_plainly, client_for, understood, unsupported
from tailorbird.ports.engine import Chunk, OutsideDriver, ProbeRequest
from tailorbird.text.chat_tokenizer import ChatTokenizer
from tailorbird.text.token_reader import TokenBytes

#: A text in which tokenizers differ: a server that reads other tokens here has another base.
_PROBE = "I'm sure THEY'RE 12345 times naïve,\n\n  \t你好 🙂 — in camelCase!"
#: Properties by which a server that was started again is known: adapters of the same names may be others by then.
_OF_A_PROCESS = ("build_info", "model_path", "media_marker")
_SAID = "start llama-server with files that tailorbird export --format gguf wrote"
#: Has the likeliest first tokens told, and the id of the one that is chosen.
_TELLING = {"stream": False, "n_probs": TOLD, "return_tokens": True}
#: Seconds for which it is known what the server holds: adapters are asked for by number, and a server that was started again has others.
_KNOWN_FOR = 1.0


class _Holdings(NamedTuple):
    """What the server holds: the numbers of its adapters, each with the release that the file names, and the names of its one model; and
    what it tells of itself: its build, the file of the model, and a marker that each process draws for itself."""

    adapters: tuple[tuple[int, str], ...]
    names: frozenset[str]
    process: tuple[str, ...] = ()


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
        """As ``OpenAiDriver.loaded``. A server that holds other adapters, in another order or under other names, or tells something else of
        itself, was started again: what was found in the former one is forgotten."""
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
        off = {"lora": _scales(served.off)} if request.bare else {}
        bodies = [self._asked(servable, prompt, Sampling(max_tokens=1)) | off | _TELLING for prompt in request.prompts]
        return list(await asyncio.gather(*(self._begun(served.chat, body) for body in bodies)))

    async def _begun(self, chat: ChatTokenizer, body: dict[str, Any]) -> TokenChances:
        """How one answer begins. Where it begins with half a character, the server tells of nothing; it is asked again then, and has to
        write a word: what it tells are the chances before that."""
        told = await self._post(self._route, body)
        with understood():
            unfinished = bool(told["tokens"]) and not told.get("completion_probabilities")
        if unfinished:
            word = chat.tokenizer.encode("the", add_special_tokens=False).ids[-1]
            again = await self._post(self._route, body | {"logit_bias": [[word, 1000.0]]})
        with understood():
            return _begins(again if unfinished and again.get("completion_probabilities") else told, TokenBytes(chat.tokenizer))

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
        told = await self._post("/tokenize", {"content": _PROBE, "add_special": False, "parse_special": False})
        with understood():
            read = told["tokens"]
        if read != chat.tokenizer.encode(_PROBE, add_special_tokens=False).ids:
            raise Conflict("llama.cpp's server reads texts as other tokens than the release's base", _SAID, code="driver_unable")
        self._served[servable.id] = _Served(chat, adapter, holdings)

    async def _holdings(self) -> _Holdings:
        files, models, process = await asyncio.gather(self._get("/lora-adapters"), self._get("/v1/models"), self._process())
        with understood():
            adapters = tuple((int(each["id"]), str(each.get("task_name") or "")) for each in files.json())
            names = frozenset(name for one in models.json()["data"] for name in (one["id"], *one.get("aliases", ())))
        return _Holdings(adapters, names, process)

    async def _process(self) -> tuple[str, ...]:
        """What tells one start of the server from the next; nothing of one that keeps its properties to itself."""
        try:
            told = await self._get("/props")
        except NotFound:
            return ()
        with understood():
            return tuple(str(told.json().get(name)) for name in _OF_A_PROCESS)

    def _forget(self) -> None:
        """The next server may have other files of these names, and has shown nothing."""
        self._servables.clear()
        self._served.clear()

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


def _begins(told: dict[str, Any], names: TokenBytes) -> TokenChances:
    """The likeliest first tokens that an answer tells of; the chosen one without a number where it tells of none. They are named by their
    ids: the server writes nothing for a control token."""
    first = (told.get("completion_probabilities") or [{}])[0]
    top = sorted(first.get("top_logprobs") or (), key=lambda one: -float(one["logprob"]))
    if not top:
        return TokenChances(tokens=tuple(names.of(token).hex() for token in told["tokens"][:1]), nats=())
    return TokenChances(tokens=tuple(names.of(one["id"]).hex() for one in top), nats=tuple(float(one["logprob"]) for one in top))
