"""Hosted models beside an engine: releases on an endpoint are asked there, all others of the engine.

What is looked up for a hosted model is found by the engine. A request to an endpoint is sent once, within its time; what fails before the
first words is answered by the release before (``answers.with_fallback``). A circuit breaker opens for an endpoint that is silent: a server
that refuses, is busy or breaks off in the middle costs nobody a timeout.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar, cast

from tailorbird.chat.tool_calls import uses_tools
from tailorbird.domain.deployment import Servable, most_read
from tailorbird.domain.endpoint import Endpoint, HostedModel
from tailorbird.domain.errors import AnswerLost, InvalidInput, NotFound, TailorbirdError, Unavailable
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.domain.value import Digest
from tailorbird.ports.endpoint import EndpointClient, HostedChunk
from tailorbird.ports.engine import A, Chunk, EngineDriver, EngineState, GenerateRequest, LoadRequest, Question, Residency, RetrieveRequest

_log = logging.getLogger("tailorbird.serving")

#: Fingerprints of a release that are logged, each once: a server may name another in each piece of an answer.
_MOST_FINGERPRINTS = 16
#: Seconds for which it is known what an endpoint may be asked.
_KNOWN_FOR = 1.0
#: Consecutive silent requests that open the circuit of an endpoint, and the seconds until one request tries it again.
_IN_A_ROW, _COOL_DOWN = 3, 30.0
#: The error for a request that is not sent.
NOT_ASKED = "endpoint_not_asked"
#: Errors before anything was sent: they say nothing of the server.
_NOT_SENT = frozenset({"address_private", "endpoint_key_missing"})


@dataclass
class CoolDown:
    """Requests in a row to which an endpoint said nothing, until when it is not asked, and when it last said anything, in seconds."""

    silent: int = 0
    until: float = float("-inf")
    heard_at: float = float("-inf")
    now: Callable[[], float] = time.monotonic

    def heard(self) -> None:
        """The server has said something."""
        self.silent, self.until, self.heard_at = 0, float("-inf"), self.now()


class EndpointCircuits:
    """Circuit breakers of one gateway, one for each tenant, its endpoint as it is registered, and model: what one tenant asks keeps none of
    the others from asking. ``not_sent`` counts the requests that were not sent. For one event loop."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._known: dict[tuple[object, ...], CoolDown] = {}
        self.not_sent = 0

    @property
    def open(self) -> int:
        """Endpoints that are not asked now, or by one request."""
        return sum(one.silent >= _IN_A_ROW for one in self._known.values())

    @contextmanager
    def attempt(self, tenant: str, endpoint: Endpoint, model: str) -> Iterator[CoolDown]:
        """Lets one request through; its errors tell what the server said. Raises Unavailable (``endpoint_not_asked``) where it is not to be
        asked now, with the seconds until it is."""
        asked = (tenant, endpoint.name, endpoint.url, model, endpoint.key, endpoint.timeout_s, endpoint.private)
        known, began = self._known.setdefault(asked, CoolDown(now=self._now)), self._now()
        if began < known.until:
            self.not_sent += 1
            raise Unavailable(
                f"the endpoint {endpoint.name} has answered none of the last {known.silent} requests, and is not asked for now",
                "it is asked again by itself; look whether it is up: tailorbird endpoint list",
                code=NOT_ASKED,
                retry_after=max(1.0, known.until - began),
            )
        if known.silent >= _IN_A_ROW:
            known.until = began + _COOL_DOWN  # this one tries it, and the others wait for what it hears
        try:
            yield known
        except TailorbirdError as error:
            if not (isinstance(error, Unavailable) and error.silent):
                if error.error_code not in _NOT_SENT:
                    known.heard()
            elif known.heard_at <= began:  # a server that answered others meanwhile is there: it is slow, or many ask at once
                known.silent += 1
                if known.silent >= _IN_A_ROW:
                    known.until = self._now() + _COOL_DOWN
                if known.silent == _IN_A_ROW:
                    _log.warning("the endpoint %s of %s said nothing to %d requests in a row", endpoint.name, tenant, known.silent)
            raise


T = TypeVar("T")


@dataclass
class Bill:
    """Money of one answer, in the currency of the settings' prices: what ``endpoint`` (empty: none was asked) was ``paid`` so far,
    ``estimated`` high where its server has not told what it read and wrote, and the ``most`` that this may come to by what is under way."""

    endpoint: str = ""
    paid: float = 0.0
    most: float = 0.0
    estimated: bool = False


#: The bill of the answer that is being made.
billing: ContextVar[Bill | None] = ContextVar("bill", default=None)


async def billed(bill: Bill, pieces: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """``pieces``, whose price is put on ``bill`` while they are made: an answer that breaks off, or that nobody waits for, has one too."""
    billing.set(bill)
    async with aclosing(pieces):
        async for piece in pieces:
            yield piece


class Charge:
    """The price of one request of at most so many tokens, read and written, on the present bill. Until the server says what it read and
    wrote, a byte is a token."""

    def __init__(self, endpoint: Endpoint, read: int, written: int) -> None:
        self._endpoint, self._read, self._written = endpoint, read, 0
        self._bill = billing.get() or Bill()
        self._before = self._bill.paid
        self.begun = False
        self._bill.endpoint, self._bill.most = endpoint.name, self._before + endpoint.cost(read, written)
        self._pay(endpoint.cost(read, 0))

    def wrote(self, size: int) -> None:
        """The server has written so many bytes more, shown or not."""
        self.begun, self._written = True, self._written + size
        self._pay(self._endpoint.cost(self._read, self._written))

    def ended(self, prompt_tokens: int, completion_tokens: int, *, estimated: bool) -> None:
        """The server has ended its answer, and said what it read and wrote, unless that is ``estimated``."""
        self.begun = True
        self._pay(self._endpoint.cost(prompt_tokens, completion_tokens), estimated=estimated)

    @contextmanager
    def open(self) -> Iterator[Charge]:
        """The request. Where it fails before the server took it, nothing is paid."""
        try:
            yield self
        except TailorbirdError as error:
            if not self.begun and not isinstance(error, AnswerLost):
                self._pay(0.0, estimated=False)
            raise
        finally:
            self._bill.most = self._bill.paid

    def _pay(self, money: float, *, estimated: bool = True) -> None:
        self._bill.paid, self._bill.estimated = self._before + money, estimated


@dataclass(frozen=True)
class HostedAccess:
    """What a driver asks of the record: the servable of a release where it is hosted (None: it is not), the endpoint of a tenant as it may
    be used now, and a client of its model."""

    admit: Callable[[LoadRequest], Servable | None]
    endpoint: Callable[[str, HostedModel], Endpoint]
    client: Callable[[Endpoint, str], EndpointClient]


@dataclass
class _SharedClient:
    """A client, and how many answers are under way through it: once it is given up, it is closed after the last of them."""

    client: EndpointClient
    answers: int = 0
    given_up: bool = False

    async def give_up(self) -> None:
        """Closes the client, at once where nothing is under way."""
        self.given_up = True
        if not self.answers:
            await self.client.close()


@dataclass
class _HostedRelease:
    """A hosted release: its endpoint as it was read last and the client of that endpoint, None until a request needs them. ``looks_up``:
    passages are found for it, by the engine of this machine."""

    tenant: str
    model: HostedModel
    looks_up: bool
    endpoint: Endpoint | None = None
    shared: _SharedClient | None = None
    read_at: float = float("-inf")
    estimated: bool = False
    fingerprints: set[str] = field(default_factory=set)
    freed: bool = False


class HostedDriver:
    """Implements ``EngineDriver`` over ``engine`` and the endpoints of tenants."""

    def __init__(self, engine: EngineDriver, access: HostedAccess) -> None:
        self._engine = engine
        self._access = access
        self.circuits = EndpointCircuits()
        self._hosted: dict[Digest, _HostedRelease] = {}

    async def load(self, request: LoadRequest) -> None:
        """Loads a release; a hosted one is verified, and neither its endpoint looked up nor its server asked: where it may not be asked any
        more, the release before answers. The engine loads what it looks up. Raises as the engine does, and as ``admit``."""
        servable = await asyncio.to_thread(self._access.admit, request)
        if servable is None or servable.hosted is None or servable.retrieval is not None:
            await self._engine.load(request)
        if servable is not None and servable.hosted is not None:
            held = _HostedRelease(servable.tenant, servable.hosted, looks_up=servable.retrieval is not None)
            self._hosted.setdefault(request.release, held)

    async def unload(self, release: Digest) -> None:
        """Frees a release; answers that are under way end first."""
        if (held := self._hosted.pop(release, None)) is not None:
            held.freed = True
            if held.shared is not None:
                await held.shared.give_up()
        if held is None or held.looks_up:
            await self._engine.unload(release)

    async def status(self) -> EngineState:
        """That of the engine, with the hosted releases among its own; one that looks something up only while the engine can."""
        state = await self._engine.status()
        hosted = [(release, one.tenant) for release, one in self._hosted.items() if not one.looks_up]
        there = (Residency(release=release, tenant=tenant, resident=True, pinned=False) for release, tenant in hosted)
        loaded = (*state.loaded, *(release for release, _ in hosted))
        return state.model_copy(update={"releases": (*state.releases, *there), "loaded": loaded})

    async def close(self) -> None:
        """Closes all connections."""
        await self.close_endpoints()
        await self._engine.close()

    async def close_endpoints(self) -> None:
        """Closes the connections to endpoints; those to the engine are its owner's."""
        for held in self._hosted.values():
            if held.shared is not None:
                await held.shared.client.close()

    async def ask(self, request: Question[A]) -> A:
        """As the engine. A hosted release only writes answers, and has looked up what it looks up. What it writes raises as
        ``EndpointClient.stream``; NotFound, Forbidden (it may not be asked any more), Unavailable (``endpoint_model_changed``,
        ``endpoint_not_asked``)."""
        held = self._hosted.get(request.release)
        if held is None or (held.looks_up and isinstance(request, RetrieveRequest)):
            return await self._engine.ask(request)
        if isinstance(request, GenerateRequest):
            return cast(A, self._written(held, request.prompt, request.sampling))
        hint = "ask a release of this machine for that"
        raise InvalidInput("a hosted model only writes answers", hint, param="model")

    async def _written(self, held: _HostedRelease, prompt: Sequence[Message], sampling: Sampling) -> AsyncGenerator[Chunk, None]:
        if uses_tools(prompt):
            hint = "leave tools out, or ask a model of this machine"
            raise InvalidInput("a hosted model is not asked to call functions", hint, code="tools_unsupported", param="tools")
        endpoint = await self._refresh(held)
        shared = held.shared
        assert shared is not None
        # Nothing is awaited in between: a client is not given up before it is held.
        shared.answers += 1
        try:
            breaker = self.circuits.attempt(held.tenant, endpoint, held.model.model)
            with breaker as attempt, Charge(endpoint, most_read(prompt), sampling.max_tokens).open() as charge:
                async with aclosing(shared.client.stream(prompt, sampling)) as pieces:
                    async for piece in pieces:
                        attempt.heard()
                        charge.wrote(piece.written)
                        if piece.finish_reason is not None:
                            charge.ended(piece.prompt_tokens, piece.completion_tokens, estimated=piece.estimated)
                        self._check(held, piece)
                        # Reasoning is paid for, and is no answer.
                        if piece.text or piece.finish_reason is not None:
                            yield Chunk(
                                text=piece.text,
                                finish_reason=piece.finish_reason,
                                prompt_tokens=piece.prompt_tokens,
                                completion_tokens=piece.completion_tokens,
                            )
        finally:
            shared.answers -= 1
            if shared.given_up:
                await shared.give_up()

    async def _refresh(self, held: _HostedRelease) -> Endpoint:
        """The endpoint, of which a client is open then, read anew where what is known is old. Raises where it may not be asked any more; an
        endpoint that is gone is no release that is missing."""
        now, endpoint = time.monotonic(), held.endpoint
        if endpoint is None or held.shared is None or now - held.read_at > _KNOWN_FOR:
            try:
                endpoint = await asyncio.to_thread(self._access.endpoint, held.tenant, held.model)
            except NotFound as error:
                raise Unavailable(error.message, error.hint, code=error.error_code) from error
            known, held.endpoint, held.read_at = held.endpoint, endpoint, now
            # Prices and names are no matter of connections.
            connection, before = ((one.url, one.key, one.timeout_s, one.private) if one else None for one in (endpoint, known))
            if held.shared is None or connection != before:
                former, held.shared = held.shared, _SharedClient(self._access.client(endpoint, held.model.model))
                if former is not None:
                    await former.give_up()
            if held.freed:
                await held.shared.give_up()
        return endpoint

    def _check(self, held: _HostedRelease, piece: HostedChunk) -> None:
        """Raises Unavailable for another model than was measured, and for an answer that the server refused."""
        model, fingerprint, endpoint = piece.model, piece.fingerprint, held.model.endpoint
        if piece.finish_reason is not None and piece.estimated and not (piece.refused or held.estimated):
            held.estimated = True
            _log.warning("the endpoint %s does not say what it read and wrote: bytes are paid for tokens", endpoint)
        unnamed = not model and bool(held.model.reported) and piece.finish_reason is not None and not piece.refused
        if unnamed or (model and model != held.model.reported):
            raise Unavailable(
                f"the endpoint {endpoint} answers as another model than was measured",
                "adapt again: what answers there now was not measured",
                code="endpoint_model_changed",
            )
        if fingerprint and fingerprint not in held.fingerprints and len(held.fingerprints) < _MOST_FINGERPRINTS:
            held.fingerprints.add(fingerprint)
            _log.info("the endpoint %s answers under the fingerprint %s", endpoint, fingerprint)
        if piece.refused:
            raise Unavailable(
                f"the endpoint {endpoint} would not answer this request",
                "ask in other words; the release before answers where there is one",
                code="endpoint_answer_refused",
            )


#: Errors of a hosted model that the release before stands in for.
STOOD_IN_FOR = frozenset(
    {
        "address_private",
        "endpoint_answer_refused",
        "endpoint_busy",
        "endpoint_changed",
        "endpoint_key_missing",
        "endpoint_missing",
        "endpoint_model_changed",
        "endpoint_model_missing",
        "endpoint_not_allowed",
        NOT_ASKED,
        "endpoint_refused",
        "endpoint_request",
        "endpoint_unavailable",
        "row_changed",
    }
)
