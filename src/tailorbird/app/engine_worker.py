"""One engine, one thread: many callers on an event loop take turns.

In: score and generate requests. Out: scores, streams of chunks. An engine is not thread-safe, so every call to it runs in one thread.
Prompts that wait for their turn with the same release and labels go through it as one batch. Must not know: HTTP, how a release is
verified.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import TypeVar

from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import InvalidInput, TailorbirdError
from tailorbird.domain.prompt import Message
from tailorbird.domain.retrieval import Found
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import Chunk, Engine, GenerateRequest, Generation, LabelScores, RetrieveRequest, ScoreRequest

T = TypeVar("T")

#: Prompts scored in one call at most.
_LARGEST_BATCH = 16

_Labels = tuple[Digest, tuple[str, ...]]


@dataclass(frozen=True)
class _Waiting:
    prompt: tuple[Message, ...]
    scores: asyncio.Future[LabelScores]


class EngineWorker:
    """Gives every caller its turn at ``engine``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._turn = asyncio.Lock()
        self._waiting: defaultdict[_Labels, list[_Waiting]] = defaultdict(list)
        self._batches: set[asyncio.Task[None]] = set()
        self._loaded: tuple[Digest, ...] = ()

    @property
    def loaded(self) -> tuple[Digest, ...]:
        """What the engine holds, as of its last load or unload: told without waiting for a turn."""
        return self._loaded

    async def load(self, servable: Servable) -> None:
        """Loads ``servable`` when its turn comes. Raises ModelInvalid."""
        await self._change(lambda: self._engine.load(servable))

    async def unload(self, release: Digest) -> None:
        """Frees ``release`` after the calls before it."""
        await self._change(lambda: self._engine.unload(release))

    async def score(self, request: ScoreRequest) -> LabelScores:
        """Scores one prompt, together with others that wait with the same release and labels. Raises what the engine raises."""
        key = (request.release, request.labels)
        waiting = _Waiting(request.prompt, asyncio.get_running_loop().create_future())
        self._waiting[key].append(waiting)
        if len(self._waiting[key]) == 1:
            self._start(key)
        return await waiting.scores

    async def retrieve(self, request: RetrieveRequest) -> list[Found]:
        """What a release looks up for one text."""
        async with self._turn:
            found = await self._run(lambda: self._engine.retrieve(request.release, [request.text], request.groups, request.count))
            return found[0]

    async def stream(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        """One answer as it comes, the last chunk with the counts; closing the iterator ends the generation at its next piece of text."""
        async with self._turn:
            loop = asyncio.get_running_loop()
            pieces: asyncio.Queue[str | None] = asyncio.Queue()
            gone = Event()

            def on_text(_index: int, text: str) -> bool:
                loop.call_soon_threadsafe(pieces.put_nowait, text)
                return not gone.is_set()

            def generate() -> list[Generation]:
                return self._engine.generate(request.release, [request.prompt], request.sampling, on_text)

            made = loop.run_in_executor(self._thread, generate)
            made.add_done_callback(lambda done: _end(pieces, done))
            try:
                while (text := await pieces.get()) is not None:
                    yield Chunk(text=text)
                yield _last(made.result()[0])
            finally:
                gone.set()
                # The turn is over when the engine is free, not when the caller has gone.
                await asyncio.wait({made})

    def close(self) -> None:
        """Ends the thread after the call under way."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _start(self, key: _Labels) -> None:
        """Queues a batch of ``key`` for its turn. It belongs to no single caller, so none can cancel it for the others."""
        task = asyncio.create_task(self._score_batch(key))
        self._batches.add(task)
        task.add_done_callback(self._batches.discard)

    async def _score_batch(self, key: _Labels) -> None:
        """Scores what waits for ``key`` when the turn comes. When the engine refuses the batch for one of them, each is asked alone."""
        async with self._turn:
            waiting = [item for item in self._waiting.pop(key) if not item.scores.done()]
            batch, rest = waiting[:_LARGEST_BATCH], waiting[_LARGEST_BATCH:]
            if rest:
                self._waiting[key] = rest
                self._start(key)
            error = await self._score(key, batch) if batch else None
            if isinstance(error, InvalidInput) and len(batch) > 1:
                for item in batch:
                    _fail([item], await self._score(key, [item]))
            else:
                _fail(batch, error)

    async def _score(self, key: _Labels, batch: list[_Waiting]) -> TailorbirdError | None:
        release, labels = key
        try:
            scores = await self._run(lambda: self._engine.score(release, [item.prompt for item in batch], labels))
        except TailorbirdError as error:
            return error
        for item, found in zip(batch, scores, strict=True):
            if not item.scores.done():
                item.scores.set_result(found)
        return None

    async def _change(self, change: Callable[[], None]) -> None:
        async with self._turn:
            await self._run(change)
            self._loaded = await self._run(self._engine.loaded)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _end(pieces: asyncio.Queue[str | None], made: asyncio.Future[list[Generation]]) -> None:
    if not made.cancelled():
        made.exception()  # looked at here: a caller that has gone will not look
    pieces.put_nowait(None)


def _fail(batch: list[_Waiting], error: TailorbirdError | None) -> None:
    for item in batch:
        if error is not None and not item.scores.done():
            item.scores.set_exception(error)


def _last(made: Generation) -> Chunk:
    return Chunk(text="", finish_reason=made.finish_reason, prompt_tokens=made.prompt_tokens, completion_tokens=made.completion_tokens)
