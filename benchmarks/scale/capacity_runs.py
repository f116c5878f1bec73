"""The capacity twin against real runs: open-loop requests through our gateway to our engine, and what the twin says of the same requests.

In: the base model of the catalogue and random adapters of rank 16 (as the serving benchmark has them). Out: for each setting the rate,
hit rate and latency of both, and the errors. The twin's timings are measured once, on a gateway with other adapters; of a setting it sees
the moments, adapters and sizes that were drawn, and nothing of the run. Its load is what comes ÷ the most that the twin says is answered.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx
from own import Own, base_folder, name_of, own
from run import say

from tailorbird.domain.capacity import CapacityReading, EngineTimings, ServingMeasurement
from tailorbird.domain.errors import Unavailable
from tailorbird.domain.serving_traffic import ServingTraffic
from tailorbird.planning.capacity import CapacityTwin, quantile
from tailorbird.planning.engine_fit import fit_timings
from tailorbird.planning.request_trace import TracedRequest, request_trace
from tailorbird.sdk.serving_stopwatch import MeasuredNames, measure_serving, random_text, stream_answer

#: Megabytes of an adapter of rank 16 on SmolLM2-135M, as the engine holds it.
ADAPTER_MB = 10.0
#: Of the gateway that is timed: adapters, and memory for some of them alone.
TIMED, TIMED_MB, KV_MB = 40, 520, 1024
#: Seconds of a run, and those at its beginning that are not counted.
SECONDS, WARM = 72.0, 10.0
QUICK_SECONDS, QUICK_WARM = 25.0, 5.0
BAR_RATE, BAR_P95 = 0.10, 0.25


@dataclass(frozen=True)
class Setting:
    """Traffic of a run. ``load`` is a share of the most that the twin says is answered; ``memory_mb`` holds the base and some adapters."""

    name: str
    adapters: int
    memory_mb: int
    load: float
    zipf: float
    prompt: tuple[float, float]
    answer: tuple[float, float]
    burst: int = 1


SETTINGS = (
    Setting("all fit, long answers", 24, 800, 0.85, 1.0, (80, 0.4), (48, 0.4)),
    Setting("all fit, short answers", 40, 1000, 0.85, 0.5, (70, 0.3), (10, 0.5)),
    Setting("all fit, long prompts", 16, 800, 0.85, 1.0, (260, 0.5), (20, 0.4)),
    Setting("all fit, bursts of eight", 24, 800, 0.6, 0.8, (90, 0.4), (24, 0.4), 8),
    Setting("three times the cache, steep", 90, 660, 0.6, 1.2, (90, 0.4), (24, 0.4)),
    Setting("three times the cache", 90, 660, 0.85, 0.9, (90, 0.4), (24, 0.4)),
    Setting("twice the cache, flat, long answers", 60, 660, 0.82, 0.5, (80, 0.4), (40, 0.4)),
)
QUICK = (SETTINGS[0], SETTINGS[5])


def compared(quick: bool) -> dict[str, Any]:
    """Every setting's run and prediction, and whether the bars hold."""
    measured, overhead, shared = _timed()
    timings = fit_timings(measured, ADAPTER_MB, KV_MB)
    say(f"timings: {timings.model_dump_json(exclude_defaults=True)}")
    found = []
    for setting in QUICK if quick else SETTINGS:
        found.append(_run(setting, timings, (overhead, shared), quick))
        say(f"{setting.name}: {found[-1]}")
    good = [one for one in found if one["holds"]]
    loaded, past = sum(one["load"] > 0.8 for one in found), sum(one["real"]["hit_rate"] < 0.99 for one in found)
    bar = {"value": len(good), "bar": len(found), "unit": "settings within 10 % (rate, hits) and 25 % (p95)", "less_is_better": False}
    holds = len(good) == len(found) and loaded >= 3 and past >= 2
    told = {"above_80_percent": loaded, "past_the_cache": past, "load": round(os.getloadavg()[0], 1)}
    return bar | {"holds": holds} | told | {"timings": timings.model_dump(mode="json"), "settings": found}


def _timed() -> tuple[ServingMeasurement, int, int]:
    """What the stopwatch says of a gateway, the tokens of a prompt beside its words, and how many of them are found in the prefix cache."""
    with own(TIMED, TIMED_MB) as server:
        # Beside them the bare base and a classifier on it are in memory.
        names = MeasuredNames([f"acme/{name_of(number)}" for number in range(TIMED)], 2)
        started = time.perf_counter()
        measured = measure_serving(server.url, server.secret, names, say)
        say(f"measured in {time.perf_counter() - started:.0f} s: {measured.model_dump_json(exclude={'traffic'})}")

        async def asked() -> tuple[int, int]:
            async with httpx.AsyncClient(base_url=server.url, headers=server.head, timeout=60, trust_env=False) as client:
                one = [await stream_answer(client, f"acme/{name_of(0)}", random_text(Random(place), 8), 1) for place in range(2)]
                return one[1].prompt - 8, one[1].cached

        return measured, *asyncio.run(asked())


def _run(setting: Setting, timings: EngineTimings, prompts: tuple[int, int], quick: bool) -> dict[str, Any]:
    seconds, warm = (QUICK_SECONDS, QUICK_WARM) if quick else (SECONDS, WARM)
    overhead, shared = prompts
    twin = CapacityTwin(_traffic(setting, 1.0, shared), timings)
    twin = twin.of(per_second=setting.load * twin.most_per_second)
    trace = [one._replace(prompt=max(one.prompt, overhead + 1)) for one in request_trace(twin.traffic, seconds, seed=17)]
    predicted = twin.told(twin.outcomes(trace, 1), (warm, seconds), 1)
    with own(setting.adapters, setting.memory_mb) as server:
        real = asyncio.run(_asked(server, trace, overhead, (warm, seconds)))
    errors = {
        "rate": abs(predicted.requests_per_second / real["requests_per_second"] - 1),
        "hit_rate": abs(predicted.hit_rate / real["hit_rate"] - 1),
        "p95": abs(predicted.p95_ms / real["p95_ms"] - 1),
    }
    holds = max(errors["rate"], errors["hit_rate"]) <= BAR_RATE and errors["p95"] <= BAR_P95
    told = {name: round(error, 3) for name, error in errors.items()}
    return {"setting": setting.name, "load": setting.load, "holds": holds, "errors": told, "real": real, "twin": _rounded(predicted)}


def _traffic(setting: Setting, per_second: float, shared: int) -> ServingTraffic:
    (prompt, prompt_spread), (answer, answer_spread) = setting.prompt, setting.answer
    return ServingTraffic.model_validate(
        {
            "base_model": base_folder(),
            "adapters": {"count": setting.adapters},
            "popularity": {"zipf": setting.zipf},
            "arrivals": {"per_second": per_second, "burst": setting.burst},
            "prompt": {"mean": prompt, "spread": prompt_spread, "most": 900, "shared": shared},
            "answer": {"mean": answer, "spread": answer_spread, "most": 200},
            "engine": {"memory_mb": setting.memory_mb, "kv_mb": KV_MB},
            "replicas": 1,
        }
    )


async def _asked(server: Own, trace: list[TracedRequest], overhead: int, within: tuple[float, float]) -> dict[str, Any]:
    """Asks every request at its moment, whatever became of those before."""
    draw, refused = Random(time.time_ns()), 0
    found: list[tuple[TracedRequest, float, float, float, int, int]] = []
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    async with httpx.AsyncClient(base_url=server.url, headers=server.head, timeout=300, trust_env=False, limits=limits) as client:
        await stream_answer(client, f"acme/{name_of(0)}", "warm", 2)
        started = time.perf_counter()

        async def one(request: TracedRequest, text: str) -> None:
            nonlocal refused
            await asyncio.sleep(max(0.0, started + request.arrival - time.perf_counter()))
            came = time.perf_counter() - started
            try:
                said = await stream_answer(client, f"acme/{name_of(request.adapter)}", text, request.answer)
            except Unavailable:
                refused += 1
                return
            first = said.pieces[0] if said.pieces else said.ended
            found.append((request, came, first - started, said.ended - started, said.prompt, said.completion))

        async def counted(at: float) -> tuple[int, int]:
            await asyncio.sleep(max(0.0, started + at - time.perf_counter()))
            state = await asyncio.to_thread(server.engine_state)
            return sum(each["requests"] for each in state["releases"]), sum(each["loads"] for each in state["releases"])

        texts = [random_text(draw, max(1, request.prompt - overhead)) for request in trace]
        before, after, *_ = await asyncio.gather(*(counted(at) for at in within), *(one(*each) for each in zip(trace, texts, strict=True)))
    return _read(found, within, (after[0] - before[0], after[1] - before[1])) | {"refused": refused, "requests": len(trace)}


def _read(
    found: list[tuple[TracedRequest, float, float, float, int, int]], within: tuple[float, float], counts: tuple[int, int]
) -> dict[str, Any]:
    start, stop = within
    came = [one for one in found if start <= one[0].arrival < stop]
    ended = [one for one in found if start <= one[3] < stop]
    latencies = sorted(1000 * (one[3] - one[1]) for one in came)
    firsts = sorted(1000 * (one[2] - one[1]) for one in came)
    return {
        "requests_per_second": round(len(ended) / (stop - start), 3),
        "tokens_per_second": round(sum(one[5] for one in ended) / (stop - start), 1),
        "hit_rate": round(1 - counts[1] / max(1, counts[0]), 4),
        "p50_ms": round(quantile(latencies, 0.5), 1),
        "p95_ms": round(quantile(latencies, 0.95), 1),
        "first_token_p95_ms": round(quantile(firsts, 0.95), 1),
        "late_ms": round(1000 * max(one[1] - one[0].arrival for one in found), 1),
        "prompt_tokens_off": round(sum(one[4] - one[0].prompt for one in found) / len(found), 2),
        "answer_tokens_off": round(sum(one[5] - one[0].answer for one in found) / len(found), 2),
    }


def _rounded(reading: CapacityReading) -> dict[str, Any]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in reading.model_dump().items()}
