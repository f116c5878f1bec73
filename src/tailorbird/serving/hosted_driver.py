"""Driver that puts hosted models beside an engine: releases on an endpoint are asked there, all others of the engine.

What is looked up for a hosted model is found by the engine. A request to an endpoint is sent once, within its time and money; what fails
before the first words is answered by the release before (``serving/fallback.py``).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

from tailorbird.crypto.canonical_json import short
from tailorbird.domain.deployment import Servable, most_read
from tailorbird.domain.effect import TokenChances
from tailorbird.domain.endpoint import Endpoint, HostedModel
from tailorbird.domain.errors import InvalidInput, NotFound, TailorbirdError, Unavailable
from tailorbird.domain.prompt import Message, RetrievedEntry, Sampling
from tailorbird.domain.value import Digest
from tailorbird.ports.endpoint import EndpointClient, HostedChunk
from tailorbird.ports.engine import Chunk, Embeddings, EngineDriver, EngineState, LabelScores, LoadRequest, ProbeRequest, Ranked, Residency
from tailorbird.serving.endpoint_circuits import NOT_ASKED, EndpointBudgets, EndpointCircuits, Paid
from tailorbird.text.tool_calls import uses_tools

_log = logging.getLogger("tailorbird.serving")

#: Fingerprints of a release that are told, each once: a server may name another in each piece of an answer.
_MOST_FINGERPRINTS = 16
#: Seconds for which it is known what an endpoint may be asked.
_KNOWN_FOR = 1.0


@dataclass(frozen=True)
class HostedAccess:
    """What a driver asks of the record: the servable of a release where it is hosted (None: it is not), the endpoint of a tenant as it may
    be used now, a client of its model, what a tenant has paid an endpoint this month, and the time."""

    admit: Callable[[LoadRequest], Servable | None]
    endpoint: Callable[[str, HostedModel], Endpoint]
    client: Callable[[Endpoint, str], EndpointClient]
    paid: Paid
    now: Callable[[], datetime]


class _SharedClient:
    """A client, and the answers that are under way through it: once it is given up, it is closed after the last of them."""

    def __init__(self, client: EndpointClient) -> None:
        self._client = client
        self._under_way = 0
        self._given_up = False

    @asynccontextmanager
    async def held(self) -> AsyncIterator[EndpointClient]:
        """The client, for one answer."""
        self._under_way += 1
        try:
            yield self._client
        finally:
            self._under_way -= 1
            if self._given_up and not self._under_way:
                await self._client.close()

    async def give_up(self) -> None:
        """Closes the client, at once where nothing is under way."""
        self._given_up = True
        if not self._under_way:
            await self._client.close()

    async def close(self) -> None:
        """Closes the client under whatever is under way."""
        await self._client.close()


@dataclass
class _HostedRelease:
    """A hosted release: its endpoint as it was read last and the client of that endpoint, None until a request needs them."""

    servable: Servable
    model: HostedModel
    endpoint: Endpoint | None = None
    client: _SharedClient | None = None
    read_at: float = float("-inf")
    estimated: bool = False
    fingerprints: set[str] = field(default_factory=set)
    freed: bool = False

    @property
    def looks_up(self) -> bool:
        """True where passages are found for it, by the engine of this machine."""
        return self.servable.retrieval is not None


class HostedDriver:
    """Implements ``EngineDriver`` over ``engine`` and the endpoints of tenants."""

    def __init__(self, engine: EngineDriver, access: HostedAccess) -> None:
        self._engine = engine
        self._access = access
        self._budgets = EndpointBudgets(access.paid, access.now)
        self.circuits = EndpointCircuits()
        self._hosted: dict[Digest, _HostedRelease] = {}

    async def load(self, request: LoadRequest) -> None:
        """Loads a release; a hosted one is verified, and neither its endpoint looked up nor its server asked: where it may not be asked any
        more, the release before answers. The engine loads what it looks up. Raises as the engine does, and as ``admit``."""
        servable = await asyncio.to_thread(self._access.admit, request)
        if servable is None or servable.hosted is None or servable.retrieval is not None:
            await self._engine.load(request)
        if servable is not None and servable.hosted is not None:
            self._hosted.setdefault(request.release, _HostedRelease(servable, servable.hosted))

    async def unload(self, release: Digest) -> None:
        """Frees a release; answers that are under way end first."""
        if (held := self._hosted.pop(release, None)) is not None:
            held.freed = True
            if held.client is not None:
                await held.client.give_up()
        if held is None or held.looks_up:
            await self._engine.unload(release)

    async def loaded(self) -> tuple[Digest, ...]:
        """Releases of the engine, and the hosted ones; of these, one that looks something up only while the engine can."""
        return (*await self._engine.loaded(), *(each for each, one in self._hosted.items() if not one.looks_up))

    async def state(self) -> EngineState:
        """What the engine is doing, with the hosted releases among its own."""
        state = await self._engine.state()
        alone = [(each, one.servable.tenant) for each, one in self._hosted.items() if not one.looks_up]
        hosted = [Residency(release=each, tenant=tenant, resident=True, pinned=False) for each, tenant in alone]
        return state.model_copy(update={"releases": (*state.releases, *hosted)})

    async def ready(self) -> bool:
        """True when the engine answers."""
        return await self._engine.ready()

    async def close(self) -> None:
        """Closes all connections."""
        await self.close_endpoints()
        await self._engine.close()

    async def close_endpoints(self) -> None:
        """Closes the connections to endpoints; those to the engine are its owner's."""
        for held in self._hosted.values():
            if held.client is not None:
                await held.client.close()

    async def score(
        self, release: Digest, prompt: Sequence[Message], labels: Sequence[str], groups: frozenset[str] = frozenset()
    ) -> LabelScores:
        """As the engine; refused for a hosted release, which writes its labels."""
        self._demand_local(release)
        return await self._engine.score(release, prompt, labels, groups)

    async def retrieve(self, release: Digest, text: str, groups: frozenset[str], count: int) -> list[RetrievedEntry]:
        """As the engine; refused for a hosted release that looks nothing up."""
        if (held := self._hosted.get(release)) is None or not held.looks_up:
            self._demand_local(release)
        return await self._engine.retrieve(release, text, groups, count)

    async def rank(self, release: Digest, text: str, documents: Sequence[str], count: int) -> Ranked:
        """As the engine; refused for a hosted release."""
        self._demand_local(release)
        return await self._engine.rank(release, text, documents, count)

    async def probe(self, request: ProbeRequest) -> list[TokenChances] | None:
        """As the engine; refused for a hosted release."""
        self._demand_local(request.release)
        return await self._engine.probe(request)

    async def embed(self, release: Digest, texts: Sequence[str]) -> Embeddings:
        """As the engine; refused for a hosted release."""
        self._demand_local(release)
        return await self._engine.embed(release, texts)

    async def stream(
        self, release: Digest, prompt: Sequence[Message], sampling: Sampling, groups: frozenset[str] = frozenset()
    ) -> AsyncGenerator[Chunk, None]:
        """One answer, piece by piece. Of a hosted release raises as ``EndpointClient.stream``; NotFound, Forbidden (it may not be asked any
        more), Exhausted (``endpoint_budget``), Unavailable (``endpoint_model_changed``, ``endpoint_not_asked``)."""
        held = self._hosted.get(release)
        pieces = self._engine.stream(release, prompt, sampling, groups) if held is None else self._asked(held, prompt, sampling)
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece

    async def _asked(self, held: _HostedRelease, prompt: Sequence[Message], sampling: Sampling) -> AsyncGenerator[Chunk, None]:
        if uses_tools(prompt):
            hint = "leave tools out, or ask a model of this machine"
            raise InvalidInput("a hosted model is not asked to call functions", hint, code="tools_unsupported", param="tools")
        endpoint = await self._refresh(held)
        assert held.client is not None
        most = most_read(prompt), sampling.max_tokens
        # Nothing is awaited between: the money that is left is held at once, and a client is not given up before it is held.
        tenant, model = held.servable.tenant, held.model.model
        with self.circuits.attempt(tenant, endpoint, model) as attempt, self._budgets.charge(tenant, endpoint, most) as charge:
            async with held.client.held() as client, aclosing(client.stream(prompt, sampling)) as pieces:
                async for piece in pieces:
                    attempt.heard()
                    charge.wrote(piece.written)
                    if piece.finish_reason is not None:
                        charge.told(piece.prompt_tokens, piece.completion_tokens, estimated=piece.estimated)
                        self._note_estimated(held, estimated=piece.estimated and not piece.refused)
                    self._demand_same(held, piece)
                    if piece.refused:
                        raise Unavailable(
                            f"the endpoint {endpoint.name} would not answer this request",
                            "ask in other words; the release before answers where there is one",
                            code="endpoint_answer_refused",
                        )
                    # Reasoning is paid for, and is no answer.
                    if piece.text or piece.finish_reason is not None:
                        yield Chunk(
                            text=piece.text,
                            finish_reason=piece.finish_reason,
                            prompt_tokens=piece.prompt_tokens,
                            completion_tokens=piece.completion_tokens,
                        )

    async def _refresh(self, held: _HostedRelease) -> Endpoint:
        """The endpoint, of which a client is open then, read anew where what is known is old. Raises where it may not be asked any
        more, or has no money left."""
        now, tenant = time.monotonic(), held.servable.tenant
        endpoint = held.endpoint
        if endpoint is None or held.client is None or now - held.read_at > _KNOWN_FOR:
            endpoint = await self._endpoint_of(tenant, held.model)
            known, held.endpoint, held.read_at = held.endpoint, endpoint, now
            if held.client is None or known is None or _connects_otherwise(endpoint, known):
                former, held.client = held.client, _SharedClient(self._access.client(endpoint, held.model.model))
                if former is not None:
                    await former.give_up()
            if held.freed:
                await held.client.give_up()
        await self._budgets.demand(tenant, endpoint)
        return endpoint

    async def _endpoint_of(self, tenant: str, model: HostedModel) -> Endpoint:
        """The endpoint as it may be used now; one that is gone is no release that is missing."""
        try:
            return await asyncio.to_thread(self._access.endpoint, tenant, model)
        except NotFound as error:
            raise Unavailable(error.message, error.hint, code=error.error_code) from error

    def _note_estimated(self, held: _HostedRelease, *, estimated: bool) -> None:
        if estimated and not held.estimated:
            held.estimated = True
            _log.warning("the endpoint %s does not say what it read and wrote: bytes are paid for tokens", held.model.endpoint)

    def _demand_same(self, held: _HostedRelease, piece: HostedChunk) -> None:
        model, fingerprint = piece.model, piece.fingerprint
        silent = not model and bool(held.model.reported) and piece.finish_reason is not None and not piece.refused
        if silent or (model and model != held.model.reported):
            raise Unavailable(
                f"the endpoint {held.model.endpoint} answers as another model than was measured",
                "adapt again: what answers there now was not measured",
                code="endpoint_model_changed",
            )
        if fingerprint and fingerprint not in held.fingerprints and len(held.fingerprints) < _MOST_FINGERPRINTS:
            held.fingerprints.add(fingerprint)
            _log.info("release %s is answered under the fingerprint %s", short(held.servable.id), fingerprint)

    def _demand_local(self, release: Digest) -> None:
        if release in self._hosted:
            raise InvalidInput(
                "a hosted model only writes answers", "ask a release of this machine for that", code="endpoint_unable", param="model"
            )


def _connects_otherwise(endpoint: Endpoint, known: Endpoint) -> bool:
    """True where what was opened for ``known`` does not do for ``endpoint``: prices, names and budgets are no matter of connections."""

    def connection(one: Endpoint) -> tuple[str, str | None, float, bool]:
        return one.url, one.key, one.timeout_s, one.private

    return connection(endpoint) != connection(known)


#: Errors of a hosted model that the release before stands in for.
STOOD_IN_FOR = frozenset(
    {
        "address_private",
        "endpoint_answer_refused",
        "endpoint_budget",
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


def is_stood_in_for(error: TailorbirdError) -> bool:
    """True for an error after which the release before answers."""
    return error.error_code in STOOD_IN_FOR
