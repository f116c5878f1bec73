"""Driver for any OpenAI-compatible server that serves one base model."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

from tailorbird.domain.deployment import Servable
from tailorbird.domain.effect import TOLD, TokenChances
from tailorbird.domain.errors import Conflict, Exhausted, InvalidInput, NotFound, TailorbirdError, Unavailable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, RetrievedEntry, Sampling
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import Chunk, Embeddings, EngineState, LabelScores, LoadRequest, OutsideDriver, ProbeRequest, Ranked, Residency
from tailorbird.text.token_reader import TokenBytes
from tailorbird.text.tool_calls import uses_tools

#: Seconds: to connect, for a quick question, for an answer.
_CONNECT, _QUICK, _ANSWER = 2.0, 5.0, 300.0
#: Seconds that an idle connection is kept for the next call. Servers close it after five (uvicorn's default, vLLM's among them): a call
#: that is sent in the moment in which the server closes gets no answer.
_KEPT_IDLE = 2.0

#: What servers write where a prompt is longer than the context: OpenAI and vLLM, vLLM in other words, tailorbird, llama.cpp.
TOO_LONG = (b"context length", b"context_length_exceeded", b"prompt_too_long", b"exceed_context_size")

Admit = Callable[[LoadRequest], Servable]
#: What tokens are called by their ids; read when it is asked for first.
Names = Callable[[], TokenBytes]
#: How vLLM tells of a token by its id.
_ID = re.compile(r"token_id:([0-9]+)")


def open_driver(url: str, key: str, model: str, admit: Admit) -> OutsideDriver:
    """A driver for ``model`` of the server at ``url`` (without ``/v1``). Nothing is sent until the first call."""
    return OpenAiDriver(client_for(url, key), model, admit)


def client_for(url: str, key: str, kept: int = 64) -> httpx.AsyncClient:
    """A client of the server at ``url``, with so many connections ``kept`` for later; proxies of the environment are not used."""
    return httpx.AsyncClient(
        base_url=url.rstrip("/"),
        headers={"authorization": f"Bearer {key}"} if key else {},
        timeout=httpx.Timeout(_ANSWER, connect=_CONNECT),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=kept, keepalive_expiry=_KEPT_IDLE),
        trust_env=False,
    )


class OpenAiDriver:
    """Implements ``OutsideDriver`` over OpenAI's chat completions."""

    #: Where answers are asked for.
    _route = "/v1/chat/completions"

    def __init__(self, client: httpx.AsyncClient, model: str, admit: Admit) -> None:
        self._client = client
        self._model = model
        self._admit = admit
        self._servables: dict[Digest, Servable] = {}

    async def load(self, request: LoadRequest) -> None:
        """Verifies the release. Raises what ``admit`` refuses with; Conflict for what this server cannot serve."""
        servable = await asyncio.to_thread(self._admit, request)
        if request.release not in self._servables:
            await self._prepare(servable)
            self._servables[request.release] = servable

    async def unload(self, release: Digest) -> None:
        """Forgets a release."""
        self._servables.pop(release, None)

    async def loaded(self) -> tuple[Digest, ...]:
        """Releases that were loaded by this driver. Raises Unavailable when the server does not answer."""
        await self._get("/v1/models")
        return tuple(self._servables)

    async def adapters(self) -> frozenset[Digest] | None:
        """None: the server holds what it was started with."""
        return None

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
        """Closes the connections; the server goes on."""
        await self._client.aclose()

    async def score(
        self, release: Digest, prompt: Sequence[Message], labels: Sequence[str], groups: frozenset[str] = frozenset()
    ) -> LabelScores:
        """Refused: the protocol does not give the log-probabilities of a prompt."""
        del prompt, labels, groups
        self._find(release)
        raise unsupported()

    async def retrieve(self, release: Digest, text: str, groups: frozenset[str], count: int) -> list[RetrievedEntry]:
        """Refused: such a server looks nothing up."""
        del text, groups, count
        self._find(release)
        raise InvalidInput("this engine looks nothing up", "serve the release with the engine of tailorbird", code="retrieval_missing")

    async def rank(self, release: Digest, text: str, documents: Sequence[str], count: int) -> Ranked:
        """Refused: such a server ranks nothing in the release's way."""
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
        """How the answers to some prompts begin: one greedy token each, which every server can tell of, while log-probabilities of prompts
        end some. A server that tells no log-probabilities, or refuses to, gives the tokens that it chose."""
        servable = self._find(request.release)
        asking = (begun(self._client, self._asked(servable, prompt, Sampling(max_tokens=1))) for prompt in request.prompts)
        return list(await asyncio.gather(*asking))

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
        body = self._asked(servable, prompt, sampling) | self._kept_apart(servable, groups)
        with self._reached():
            async with self._client.stream("POST", self._route, json=body) as response:
                if response.is_error:
                    raise refusal(response.status_code, await response.aread())
                last: dict[str, Any] = {}
                async for line in response.aiter_lines():
                    with understood():
                        event = _event(line)
                        text = "" if event is None else self._read(event, last)
                    if text:
                        yield Chunk(text=text)
                with understood():
                    closing = _closing(last)
                yield closing

    def _read(self, event: dict[str, Any], last: dict[str, Any]) -> str:
        """The text of an event; what it says of the answer's end is kept in ``last``."""
        choices = event.get("choices", ())
        last["reason"] = next((choice["finish_reason"] for choice in choices if choice.get("finish_reason")), last.get("reason"))
        last["usage"] = event.get("usage") or last.get("usage")
        return "".join((choice.get("delta") or {}).get("content") or "" for choice in choices)

    async def _prepare(self, servable: Servable) -> None:
        """Refuses what cannot be served here."""
        if servable.hosted is not None and servable.retrieval is None:
            raise Conflict("this engine asks no endpoints", "the gateway does: let it load the release", code="hosted_unserved")
        if servable.adapter or servable.weights:
            raise Conflict("this engine serves no adapters and no weights", "serve the release with torch or vllm", code="driver_unable")
        if not answers_plainly(servable):
            raise unsupported()

    def _named(self, servable: Servable) -> str:
        """What the server calls the model of a release."""
        del servable
        return self._model

    def _kept_apart(self, servable: Servable, groups: frozenset[str]) -> dict[str, Any]:
        """What has the server share its memory of prompts with the same release and groups alone; the protocol has no word for it."""
        del servable, groups
        return {}

    def _find(self, release: Digest) -> Servable:
        servable = self._servables.get(release)
        if servable is None:
            raise NotFound("this release is not loaded", "load it before asking it", code="servable_not_loaded")
        return servable

    def _asked(self, servable: Servable, prompt: Sequence[Message], sampling: Sampling) -> dict[str, Any]:
        return completion_body(self._named(servable), [message.model_dump(exclude_defaults=True) for message in prompt], sampling)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """As ``reached``; where nobody listens the server has ended, and what listens there next may be another under the same names."""
        try:
            with reached():
                yield
        except Unavailable as error:
            if _is_ended(error):
                self._forget()
            raise

    def _forget(self) -> None:
        """The server has ended. Nothing of a release is asked of it but its prompt."""

    async def _get(self, path: str) -> httpx.Response:
        with self._reached():
            response = await self._client.get(path, timeout=httpx.Timeout(_QUICK, connect=_CONNECT))
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
        body["response_format"] = answer_format(sampling.json_schema)
    return body


@contextmanager
def reached() -> Iterator[None]:
    """A transport that fails is an engine that is away."""
    try:
        yield
    except httpx.RequestError as error:
        raise Unavailable("the engine does not answer", "try again in a few seconds", code="engine_unavailable") from error


def _is_ended(error: BaseException | None) -> bool:
    """True where a connection was refused, at the root of an error: a server that is only busy has a listener."""
    if error is None or isinstance(error, ConnectionRefusedError):
        return error is not None
    # A name of several addresses, as localhost has, leaves an error for each.
    within = error.exceptions if isinstance(error, BaseExceptionGroup) else (error.__cause__ or error.__context__,)
    return any(map(_is_ended, within))


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
        return InvalidInput("the engine cannot follow this request", "ask with fewer settings", code="engine_refused")
    if status == 404:
        return NotFound("the engine lacks this model", "load it before asking it", code="servable_not_loaded")
    return Unavailable(f"the engine answered with status {status}", "look at its log", code="engine_unavailable")


def _event(line: str) -> dict[str, Any] | None:
    data = line.removeprefix("data:").strip()
    if not line.startswith("data:") or data == "[DONE]":
        return None
    event: dict[str, Any] = json.loads(data)
    if "error" in event:
        raise Unavailable("the engine broke off the answer", "try again", code="engine_unavailable")
    return event


async def begun(client: httpx.AsyncClient, asked: dict[str, Any], names: Names | None = None) -> TokenChances:
    """How the answer to one request begins: where the server tells of no log-probabilities, or not of so many, by the token that it
    chooses. ``names`` are the tokens of a server that tells of ids. Raises what the server refuses with, and Unavailable
    (``engine_defect``)."""
    plain = {name: value for name, value in asked.items() if name not in ("stream", "stream_options")}
    with reached():
        response = await client.post("/v1/chat/completions", json=plain | {"logprobs": True, "top_logprobs": TOLD})
        if response.status_code in (400, 422):
            response = await client.post("/v1/chat/completions", json=plain)
    if response.is_error:
        raise refusal(response.status_code, response.content)
    with understood():
        return await asyncio.to_thread(_chances, response.json(), names)


def _chances(told: Any, names: Names | None) -> TokenChances:
    """The likeliest first tokens that an answer tells of; the chosen one without a number where it tells of none."""
    choice = told["choices"][0]
    told_of = ((choice.get("logprobs") or {}).get("content") or [{}])[0].get("top_logprobs") or []
    top = sorted(told_of, key=lambda one: -float(one["logprob"]))
    if top:
        return TokenChances(tokens=tuple(_name(one, names) for one in top), nats=tuple(float(one["logprob"]) for one in top))
    ids = choice.get("token_ids")
    written = names().of(ids[0]) if names is not None and ids else str((choice.get("message") or {}).get("content") or "").encode()
    return TokenChances(tokens=(written.hex(),), nats=())


def _name(told: dict[str, Any], names: Names | None) -> str:
    """The bytes of a token, in hexadecimal. What a server writes of half a character or of a control token is not what others write: the
    vocabulary names what is told by its id."""
    if names is not None and (numbered := _ID.fullmatch(str(told["token"]))):
        return names().of(int(numbered[1])).hex()
    return bytes(told["bytes"]).hex() if told.get("bytes") else str(told["token"]).encode().hex()


def _closing(last: dict[str, Any]) -> Chunk:
    usage = last.get("usage") or {}
    if last.get("reason") is None:
        raise Unavailable("the engine broke off the answer", "try again", code="engine_unavailable")
    return Chunk(
        text="",
        finish_reason="length" if last["reason"] == "length" else "stop",
        prompt_tokens=usage.get("prompt_tokens", 0),
        completion_tokens=usage.get("completion_tokens", 0),
        cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
        reasoning_tokens=(usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0,
    )


def answer_format(schema: str) -> dict[str, Any]:
    """What asks for answers that fit a JSON schema (as text; ``{}``: any object)."""
    wanted = json.loads(schema)
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": wanted}} if wanted else {"type": "json_object"}


def answers_plainly(servable: Servable) -> bool:
    """True for what a server of the protocol can serve: texts, without anything that is looked up or reasoned before them."""
    return servable.task is TaskKind.GENERATE and servable.retrieval is None and not servable.prompt.thinking


def unsupported() -> InvalidInput:
    """Reason why a release with label scores, retrieval or reasoning is not served here."""
    return InvalidInput(
        "this engine can neither score labels, nor look anything up, nor leave reasoning out of answers",
        "serve the release with the engine torch",
        code="scoring_unsupported",
    )
