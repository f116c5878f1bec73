"""Async engine: bridge between the engine's thread and an event loop with many callers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable

from tailorbird.domain.deployment import Servable
from tailorbird.domain.effect import TokenChances
from tailorbird.domain.errors import Conflict, Internal, TailorbirdError, Unavailable
from tailorbird.domain.retrieval import RetrievedEntry
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import (
    Chunk,
    Embeddings,
    EmbedRequest,
    EngineState,
    GenerateRequest,
    LabelScores,
    LiveEngine,
    ProbeRequest,
    Ranked,
    RankRequest,
    RetrieveRequest,
    ScoreRequest,
    Told,
)


class AsyncEngine:
    """Asynchronous access to ``engine``."""

    def __init__(self, engine: LiveEngine) -> None:
        self._engine = engine
        self._mail = _Mail()

    @property
    def loaded(self) -> tuple[Digest, ...]:
        """Releases that the engine holds."""
        return self._engine.loaded()

    def state(self) -> EngineState:
        """State of the engine."""
        return self._engine.state()

    def check_gets_on(self) -> None:
        """Raises Unavailable when the engine's thread has hung. Waits for nothing."""
        if self._engine.overdue():
            raise Unavailable("a step of the engine does not end", "the gateway restarts it by itself", code="engine_hung")

    async def load(self, servable: Servable, *, pinned: bool = False) -> None:
        """Loads ``servable`` while others are answered; of a hosted one what it looks up. Raises ModelInvalid, Corrupt, Conflict (one that
        looks nothing up)."""
        if servable.hosted is not None and servable.retrieval is None:
            raise Conflict("this engine asks no endpoints", "the gateway does: let it load the release", code="hosted_unserved")
        await asyncio.to_thread(self._engine.load, servable, pinned=pinned)

    async def unload(self, release: Digest) -> None:
        """Takes ``release`` out of service; it is freed when its last request has ended."""
        await asyncio.to_thread(self._engine.unload, release)

    async def score(self, request: ScoreRequest) -> LabelScores:
        """Scores one prompt. Raises what the engine raises."""
        async with _EngineCall(self._engine, self._mail, request) as told:
            found = await told.get()
        if not isinstance(found, LabelScores):
            raise _error(found)
        return found

    async def retrieve(self, request: RetrieveRequest) -> list[RetrievedEntry]:
        """Entries that a release retrieves for one text."""
        found = await asyncio.to_thread(self._engine.retrieve, request.release, [request.text], request.groups, request.count)
        return found[0]

    async def rank(self, request: RankRequest) -> Ranked:
        """The caller's documents in order."""
        return await asyncio.to_thread(self._engine.rank, request.release, request.text, request.documents, request.count)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        """Texts as vectors."""
        return await asyncio.to_thread(self._engine.embed, request.release, request.texts)

    async def probe(self, request: ProbeRequest) -> list[TokenChances]:
        """How the answers to some prompts begin."""
        return await asyncio.to_thread(self._engine.probe, request)

    async def stream(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        """One answer as it comes, the last chunk with the counts; closing the iterator ends the generation."""
        async with _EngineCall(self._engine, self._mail, request) as told:
            while True:
                piece = await told.get()
                if not isinstance(piece, Chunk):
                    raise _error(piece)
                yield piece
                if piece.finish_reason is not None:
                    return

    def close(self) -> None:
        """Ends what is under way."""
        self._engine.close()


class _Mail:
    """What the engine's thread tells, on its way to the event loop: a step tells many callers, and the loop is woken once."""

    def __init__(self) -> None:
        self._told = deque[tuple[asyncio.Queue[Told], Told]]()
        self._called: asyncio.AbstractEventLoop | None = None

    def put(self, loop: asyncio.AbstractEventLoop, queue: asyncio.Queue[Told], told: Told) -> None:
        """From any thread: ``told`` comes to ``queue``."""
        self._told.append((queue, told))
        if self._called is not loop:
            self._called = loop
            loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._called = None  # first: what is put from here on calls again
        while self._told:
            queue, told = self._told.popleft()
            queue.put_nowait(told)


class _EngineCall:
    """A request under way: what is told of it, and its end when nobody listens any more."""

    def __init__(self, engine: LiveEngine, mail: _Mail, request: ScoreRequest | GenerateRequest) -> None:
        self._engine, self._mail, self._request = engine, mail, request
        self._told: asyncio.Queue[Told] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._gone = False
        self._cancel: Callable[[], None] = _nothing

    async def __aenter__(self) -> asyncio.Queue[Told]:
        try:
            self._cancel = await asyncio.to_thread(self._begin)
        except BaseException:
            self._gone = True
            raise
        return self._told

    async def __aexit__(self, *_error: object) -> None:
        self._gone = True
        self._cancel()

    def _begin(self) -> Callable[[], None]:
        cancel = self._engine.submit(self._request, self._tell)
        # A caller who went while the request was begun is noticed here: nobody else would cancel it.
        if self._gone:
            cancel()
        return cancel

    def _tell(self, told: Told) -> bool:
        if not self._gone:
            self._mail.put(self._loop, self._told, told)
        return not self._gone


def _nothing() -> None:
    """There is nothing to cancel yet."""


def _error(told: Told) -> TailorbirdError:
    if isinstance(told, TailorbirdError):
        return told
    return Internal("the engine told something else than was asked", "look at its log", code="engine_defect")
