"""Speaks to a vLLM server on this machine.

In: its URL, its key, the name of its base model, the rule that admits releases. Out: an ``EngineDriver``. An adapter is loaded under the
digest of its release and under no other name, so that a name is never used again for other weights, and vLLM's prefix cache, which is
keyed by the adapter and by a salt of ours, never serves one release's beginning to another. Labels are scored by the log-probabilities of a
prompt, one prompt a label. Only the calls named here and in ``openai_compatible`` are made. Must not know: aliases, who asks.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import Conflict, InvalidInput
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.domain.value import Digest
from tailorbird.foundations.prompting import render
from tailorbird.integrations.openai_compatible.driver import Admit, OpenAiDriver, client_for
from tailorbird.ports.engine import EngineDriver, LabelScores

_ANSWER = "tailorbird"


def open_driver(url: str, key: str, model: str, admit: Admit) -> EngineDriver:
    """A driver for the vLLM server at ``url``, which must be on this machine and serve the base as ``model``. Raises InvalidInput."""
    host = urlsplit(url).hostname or ""
    if host != "localhost" and not _is_loopback(host):
        raise InvalidInput(
            "vLLM must listen on this machine alone",
            "start it with --host 127.0.0.1: its own key leaves many routes open",
            code="engine_open",
        )
    return VllmDriver(client_for(url, key), model, admit)


class VllmDriver(OpenAiDriver):
    """Implements ``EngineDriver`` over vLLM's own routes beside OpenAI's."""

    async def unload(self, release: Digest) -> None:
        """Frees a release; vLLM ends what is under way first."""
        servable = self._servables.pop(release, None)
        if servable is not None and servable.adapter:
            await self._post("/v1/unload_lora_adapter", {"lora_name": release})

    async def score(self, release: Digest, prompt: Sequence[Message], labels: Sequence[str]) -> LabelScores:
        """As ``Engine.score`` for one prompt."""
        servable, started = self._find(release), time.perf_counter()
        if not labels or not all(labels) or len(set(labels)) < len(labels):
            raise InvalidInput("the labels cannot be told apart", "name every label once", code="label_duplicate")
        asked = await self._tokens(_rendered(servable, prompt))
        end = (await self._tokens(_end_of_turn(servable)))[0]
        answers = [[*await self._tokens(label), end] for label in labels]
        found = await self._sums(servable, asked, answers)
        return LabelScores(
            log_probabilities=tuple(_normalised(found)), prompt_tokens=len(asked), latency_ms=(time.perf_counter() - started) * 1000
        )

    async def _prepare(self, servable: Servable) -> None:
        """Has the adapter loaded under the release's digest."""
        if servable.weights:
            raise Conflict("vLLM serves one base a process, no other weights", "serve the release with torch", code="driver_unable")
        if servable.task is TaskKind.RANK or servable.retrieval is not None:
            raise Conflict("vLLM looks nothing up", "serve the release with torch", code="driver_unable")
        if servable.adapter:
            await self._post("/v1/load_lora_adapter", {"lora_name": servable.id, "lora_path": servable.adapter})

    def _named(self, servable: Servable) -> str:
        return servable.id if servable.adapter else self._model

    def _asked(self, servable: Servable, prompt: Sequence[Message], sampling: Sampling) -> dict[str, Any]:
        asked = super()._asked(servable, prompt, sampling) | {"cache_salt": _salt(servable)}
        return asked | ({"top_k": sampling.top_k} if sampling.top_k else {})

    async def _tokens(self, text: str) -> list[int]:
        found = await self._post("/tokenize", {"model": self._model, "prompt": text, "add_special_tokens": False})
        tokens: list[int] = found["tokens"]
        return tokens

    async def _sums(self, servable: Servable, asked: list[int], answers: list[list[int]]) -> list[float]:
        """The log-probability (nats) of each answer after the prompt: echoed, so that no token but one is generated."""
        body = {"model": self._named(servable), "prompt": [asked + answer for answer in answers], "max_tokens": 1, "temperature": 0}
        body |= {"echo": True, "logprobs": 1, "cache_salt": _salt(servable), "add_special_tokens": False}
        found = await self._post("/v1/completions", body)
        choices = sorted(found["choices"], key=lambda choice: choice["index"])
        places = [choice["logprobs"]["token_logprobs"] for choice in choices]
        return [sum(told[len(asked) : len(asked) + len(answer)]) for told, answer in zip(places, answers, strict=True)]


def _salt(servable: Servable) -> str:
    return f"{servable.tenant}/{servable.id}"


def _rendered(servable: Servable, prompt: Sequence[Message]) -> str:
    return render(_template(servable), prompt)


def _end_of_turn(servable: Servable) -> str:
    turns = (Message(role="user", content="?"), Message(role="assistant", content=_ANSWER))
    return render(_template(servable), turns).rpartition(_ANSWER)[2]


def _template(servable: Servable) -> str:
    return (Path(servable.base) / "chat_template.jinja").read_text(encoding="utf-8")


def _normalised(nats: Sequence[float]) -> list[float]:
    most = max(nats)
    total = most + math.log(sum(math.exp(each - most) for each in nats))
    return [each - total for each in nats]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
