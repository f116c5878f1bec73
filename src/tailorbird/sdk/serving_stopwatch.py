"""Stopwatch of a gateway and its engine: a short measurement over HTTP, as a client sees them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from itertools import accumulate, count, takewhile
from random import Random
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from tailorbird.domain.capacity import ServingMeasurement, TimedRequest, TimedStep
from tailorbird.domain.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    import httpx

#: Answers that go on at a time (up to as many as the engine computes together), adapters among them, and words of their prompts.
_STREAMS = (
    *((1, 1, 8), (4, 4, 8), (8, 1, 8), (8, 8, 8), (16, 1, 8), (16, 8, 8), (16, 16, 8)),
    *((32, 16, 8), (48, 16, 8), (64, 1, 8), (64, 16, 8), (8, 8, 250)),
)
_LARGEST = 16
#: Tokens of those answers, and more of each for those that begin after it; words of lone prompts, and how often each is asked.
_WRITTEN, _LATER, _LONE, _REPEATS = 28, 0.5, (1, 10, 25, 55, 110, 240, 500, 900), 3
#: Of traffic: words, tokens of an answer, adapters; requests of a crowd and the seconds within which they come; then the share of the
#: crowd's pace at which others come, and for how many seconds.
_WORDS_ASKED, _ANSWERED, _HOT = (10, 40, 120), (6, 16, 40), 8
_CROWD, _WITHIN, _LOAD, _STEADY = 96, 3.0, 0.85, 30.0
#: Loads that are timed with nothing beside them and with some answers, tokens of those answers, and seconds they are timed for at most.
_LOADS, _BESIDE, _LONG, _PHASE = 10, 4, 400, 6.0
#: Seconds within which a gateway's metrics tell what its engine did, and between two looks at them.
_TOLD, _LOOK = 8.0, 0.1
#: Seconds that answers go on before what they write is counted.
_SETTLED = 0.5
_WORDS = (
    "time",
    "year",
    "people",
    "way",
    "day",
    "man",
    "thing",
    "life",
    "child",
    "world",
    "school",
    "state",
    "family",
    "group",
    "hand",
    "part",
)


class StreamedAnswer(NamedTuple):
    """An answer as it came: when it was asked for, moments of its pieces, and its counts."""

    asked: float
    pieces: tuple[float, ...]
    ended: float
    prompt: int
    cached: int
    completion: int


async def stream_answer(client: httpx.AsyncClient, model: str, text: str, most: int) -> StreamedAnswer:
    """Asks ``model``, and notes when pieces come. Raises Unavailable (``serving_unmeasured``): it was refused, or broke off."""
    import httpx

    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": most, "temperature": 0, "stream": True}
    asked, pieces, last = time.perf_counter(), list[float](), b""
    try:
        async with client.stream("POST", "/v1/chat/completions", json=body | {"stream_options": {"include_usage": True}}) as response:
            async for part in response.aiter_bytes():
                pieces += [time.perf_counter()] * part.count(b'"content":')
                last = (last + part)[-4096:]
            status = response.status_code
    except httpx.HTTPError as error:
        raise _unmeasured(model, type(error).__name__) from error
    if status != 200 or b'"usage":{' not in last:
        raise _unmeasured(model, f"status {status}")
    usage = next(
        json.loads(line[6:])["usage"] for line in reversed(last.split(b"\n")) if line.startswith(b"data: {") and b'"usage":{' in line
    )
    cached = usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)
    return StreamedAnswer(asked, tuple(pieces), time.perf_counter(), usage["prompt_tokens"], cached, usage["completion_tokens"])


def _unmeasured(model: str, what: str) -> Unavailable:
    hint = "see that the name answers in text, the key may ask it, and no limit of tokens or requests is reached"
    return Unavailable(f"{model} gave no whole answer ({what})", hint, code="serving_unmeasured")


class MeasuredNames(NamedTuple):
    """Names of adapters, and how many other names are answered: those are thought to need no adapter, and so to be in memory."""

    adapters: Sequence[str]
    others: int


def names_of(url: str, key: str, pattern: str) -> MeasuredNames:
    """Names that the gateway at ``url`` answers under, by whether ``pattern`` (with ``*``) fits them. Raises Unavailable."""
    import httpx

    try:
        response = httpx.get(f"{url.rstrip('/')}/v1/models", headers={"authorization": f"Bearer {key}"}, timeout=30, trust_env=False)
        names = [one["id"] for one in response.raise_for_status().json()["data"]]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise _unmeasured("the gateway", type(error).__name__) from error
    fitting = sorted(name for name in names if fnmatchcase(name, pattern))
    return MeasuredNames(fitting, len(names) - len(fitting))


def measure_serving(url: str, key: str, names: MeasuredNames, tell: Callable[[str], None] = lambda _: None) -> ServingMeasurement:
    """Measures the gateway at ``url`` for one to two minutes, best beside no other traffic. Raises Unavailable, InvalidInput
    (``serving_models``: too few names)."""
    if len(names.adapters) < 2:
        raise InvalidInput(
            "fewer than two names of adapters answer", "name more: loads and mixed batches are measured", code="serving_models"
        )
    return asyncio.run(_measured(url, key, names, tell))


async def _measured(url: str, key: str, names: MeasuredNames, tell: Callable[[str], None]) -> ServingMeasurement:
    import httpx

    head, pool = {"authorization": f"Bearer {key}"}, httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, headers=head, timeout=120, trust_env=False, limits=pool) as client:
        watch = _Stopwatch(client, names.adapters)
        tell("timing answers that go on together")
        steps = await watch.streams()
        tell("timing prompts")
        steps += await watch.lone()
        tell("timing traffic")
        traffic = await watch.traffic()
        tell("timing loads of adapters")
        loads = await watch.loads()
        told = await watch.metrics()
    idle, busy, slowdown, notes = loads
    return ServingMeasurement(
        steps=tuple(steps),
        traffic=tuple(traffic),
        load_seconds=idle,
        busy_load_seconds=busy,
        load_slowdown=slowdown,
        held_mb=told["memory_bytes"] / 2**20,
        resident=max(0, min(len(names.adapters), int(told["releases_resident"]) - names.others)),
        kv_tokens=int(told["kv_tokens"]),
        notes=notes,
    )


class _Stopwatch:
    """One measurement. The first names are kept in memory by asking them; all of them in turn are more than fit, where loads are timed."""

    def __init__(self, client: httpx.AsyncClient, models: Sequence[str]) -> None:
        self._client, self._models = client, tuple(models)
        self._draw = Random(time.time_ns())
        self._turn = min(_LARGEST, len(models) // 2)

    async def streams(self) -> list[TimedStep]:
        """Steps of answers alone, of which several go on at a time."""
        found = []
        for streams, adapters, words in _STREAMS:
            distinct = min(adapters, len(self._models))
            names = [place % distinct for place in range(streams)]
            await self._ask_together(names[:distinct], 1, 2)
            answers = await self._ask_together(names, words, _WRITTEN + int(_LATER * streams))
            begun, over = max(one.pieces[0] for one in answers if one.pieces), min(one.pieces[-1] for one in answers if one.pieces)
            written = [sum(begun < at <= over for at in one.pieces) * one.completion / len(one.pieces) for one in answers if one.pieces]
            if not written or median(written) < 4:
                continue
            context = sum(one.prompt + one.completion / 2 for one in answers)
            seconds = (over - begun) / (sum(written) / len(written))
            found.append(TimedStep(tokens=streams, rows=streams, adapters=distinct, context=context, seconds=seconds))
        return found

    async def lone(self) -> list[TimedStep]:
        """From asking to the first token, of prompts of several lengths that were not read before."""
        found = []
        for words in _LONE:
            answers = [await self._ask(0, words, 1) for _ in range(_REPEATS)]
            one = sorted(answers, key=lambda one: one.pieces[0] - one.asked if one.pieces else one.ended - one.asked)[_REPEATS // 2]
            new = one.prompt - one.cached
            seconds = (one.pieces[0] if one.pieces else one.ended) - one.asked
            context = new * (one.cached + new / 2)
            found.append(TimedStep(tokens=new, rows=1, adapters=1, context=context, seconds=seconds, first=True))
        return found

    async def traffic(self) -> list[TimedRequest]:
        """Requests that come at random moments, somewhat slower than a crowd of the same kind was answered."""
        await self._ask_together(range(min(_HOT, len(self._models))), 1, 2)
        crowd = await self._come(place * _WITHIN / _CROWD for place in range(_CROWD))
        pace = _LOAD * _CROWD / max(one.arrival + one.took for one in crowd)
        return await self._come(takewhile(_STEADY.__gt__, accumulate(self._draw.expovariate(pace) for _ in count())))

    async def _come(self, moments: Iterable[float]) -> list[TimedRequest]:
        """Requests that come at ``moments``, in seconds from now."""
        hot, started = min(_HOT, len(self._models)), time.perf_counter()

        async def later(place: int, moment: float) -> TimedRequest:
            await asyncio.sleep(moment)
            words, most = self._draw.choice(_WORDS_ASKED), self._draw.choice(_ANSWERED)
            one = await self._ask(place % hot, words, most)
            counts = {"prompt": one.prompt, "cached": one.cached, "answer": one.completion}
            return TimedRequest(arrival=one.asked - started, adapter=place % hot, took=one.ended - one.asked, **counts)

        return sorted(await asyncio.gather(*(later(*each) for each in enumerate(moments))), key=lambda one: one.arrival)

    async def loads(self) -> tuple[float, float, float, tuple[str, ...]]:
        """Seconds of a load alone and beside answers, how many times as long steps take meanwhile, and notes."""
        before = await self.metrics()
        await self._in_turn(_LOADS)
        after = await self.metrics()
        loads = after["loads"] - before["loads"]
        if loads < _LOADS / 2:
            mean = after["load_seconds"] / max(1.0, after["loads"])
            return (
                mean,
                mean,
                1.0,
                ("all named adapters are in memory: loads are those of the start, and their cost to others is not known",),
            )
        idle = (after["load_seconds"] - before["load_seconds"]) / loads
        busy, slowdown = await self._beside(idle)
        return idle, busy, slowdown, ()

    async def _beside(self, idle: float) -> tuple[float, float]:
        """A load's seconds beside answers that go on, and by how much it holds those up: by what they write alone, beside short requests
        whose adapter is there, and beside some whose adapter is not."""
        spans = []
        for kind in ("none", "hits", "misses"):
            before, tokens = await self.metrics(), [0]
            stop = asyncio.Event()
            beside = [asyncio.create_task(self._go_on(adapter, stop, tokens)) for adapter in range(_BESIDE)]
            await asyncio.sleep(_SETTLED)
            written, started, asked = tokens[0], time.perf_counter(), 0
            while time.perf_counter() - started < _PHASE and asked < 3 * _LOADS:
                if kind == "none":
                    await asyncio.sleep(_PHASE / 3)
                    asked = 3 * _LOADS
                else:
                    await self._in_turn(1) if kind == "misses" else await self._ask(asked % _BESIDE, 1, 1)
                    asked += 1
            wall, wrote = time.perf_counter() - started, tokens[0] - written
            stop.set()
            await asyncio.gather(*beside)
            after = await self.metrics()
            spans.append((wall, wrote, asked, after["loads"] - before["loads"], after["load_seconds"] - before["load_seconds"]))
        (alone, wrote_alone, *_), (hits, wrote_hits, asked_hits, *_), (wall, wrote, asked, loads, loading) = spans
        token = alone / max(1, wrote_alone)
        request = max(0.0, (hits - wrote_hits * token) / max(1, asked_hits))
        work = wrote * token + asked * request
        inside = work - (wall - loading)
        busy = loading / loads if loads else idle
        return busy, min(10.0, max(1.0, loading / inside)) if inside > 0.05 * loading else 10.0

    async def _go_on(self, adapter: int, stop: asyncio.Event, tokens: list[int]) -> None:
        """One answer after another until told to stop; their pieces are counted."""
        while not stop.is_set():
            body = {"model": self._models[adapter % len(self._models)], "max_tokens": _LONG, "stream": True, "temperature": 0}
            async with self._client.stream("POST", "/v1/chat/completions", json=body | {"messages": self._messages(8)}) as response:
                if response.status_code != 200:
                    return
                async for part in response.aiter_bytes():
                    tokens[0] += part.count(b'"content":')
                    if stop.is_set():
                        break

    async def _in_turn(self, count: int) -> None:
        """Asks the names after those that were asked last: none of them is in memory where all are more than fit."""
        for _ in range(count):
            self._turn = self._turn + 1 if self._turn + 1 < len(self._models) else min(_BESIDE, len(self._models) - 1)
            await self._ask(self._turn, 1, 1)

    async def metrics(self) -> dict[str, float]:
        """What the gateway tells of its engine once it has asked it anew: it counts a request of ours, asked after a first look. Raises
        Unavailable: it tells nothing."""
        before, until = await self._shown(), time.perf_counter() + _TOLD
        await self._ask(0, 1, 1)
        while (now := await self._shown()).get("prompt_tokens") == before.get("prompt_tokens") and time.perf_counter() < until:
            await asyncio.sleep(_LOOK)
        return now

    async def _shown(self) -> dict[str, float]:
        lines = (await self._client.get("/metrics")).text.splitlines()
        pairs = (line.split() for line in lines if line.startswith("tailorbird_engine_"))
        told = {name.removeprefix("tailorbird_engine_"): float(value) for name, value in pairs}
        if not told.get("memory_bytes"):
            raise Unavailable(
                "/metrics tells nothing of an engine's memory", "measure a gateway of tailorbird serve", code="serving_unmeasured"
            )
        return told

    async def _ask_together(self, adapters: Sequence[int], words: int, most: int) -> list[StreamedAnswer]:
        return list(await asyncio.gather(*(self._ask(adapter, words, most) for adapter in adapters)))

    async def _ask(self, adapter: int, words: int, most: int) -> StreamedAnswer:
        return await stream_answer(self._client, self._models[adapter % len(self._models)], self._text(words), most)

    def _messages(self, words: int) -> list[dict[str, str]]:
        return [{"role": "user", "content": self._text(words)}]

    def _text(self, words: int) -> str:
        return random_text(self._draw, words)


def random_text(draw: Random, words: int) -> str:
    """So many words after a number that was not written before: nothing of it is in a prefix cache."""
    return " ".join([f"{draw.randrange(10**6):06}", *draw.choices(_WORDS, k=words)])
