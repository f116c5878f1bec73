"""The stopwatch asks a gateway as clients do, and tells what its answers and metrics tell."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import httpx
import pytest

from tailorbird.domain.errors import InvalidInput, Unavailable
from tailorbird.sdk import serving_stopwatch
from tailorbird.sdk.serving_stopwatch import MeasuredNames, measure_serving, names_of

NAMES = MeasuredNames([f"acme/a{number}" for number in range(24)], 2)


class Gateway:
    """Answers at once; of its adapters so many are ``resident``, the least recently asked put out first."""

    def __init__(self, resident: int) -> None:
        self._resident, self._there, self.loads = resident, OrderedDict[str, None](), 0
        self.asked = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/metrics":
            told = {"memory_bytes": (100 + 10 * len(self._there)) * 2**20, "releases_resident": len(self._there) + 2, "kv_tokens": 4096}
            told |= {"prompt_tokens": self.asked, "loads": self.loads, "load_seconds": self.loads * 0.25}
            return httpx.Response(200, text="".join(f"tailorbird_engine_{name} {value}\n" for name, value in told.items()))
        asked, self.asked = json.loads(request.content), self.asked + 1
        assert request.headers["authorization"] == "Bearer secret"
        if asked["model"] not in self._there:
            self.loads += 1
            self._there[asked["model"]] = None
        self._there.move_to_end(asked["model"])
        while len(self._there) > self._resident:
            self._there.popitem(last=False)
        count, words = asked["max_tokens"], len(asked["messages"][0]["content"].split())
        usage = {"prompt_tokens": 20 + words, "completion_tokens": count, "prompt_tokens_details": {"cached_tokens": 16}}
        events = [{"choices": [{"delta": {"content": "a"}}]}] * count + [{"choices": [], "usage": usage}]
        text = "".join(f"data: {json.dumps(event, separators=(',', ':'))}\n\n" for event in events)
        return httpx.Response(200, text=text + "data: [DONE]\n\n")


def behind(monkeypatch: pytest.MonkeyPatch, handler: Callable[[httpx.Request], httpx.Response]) -> None:
    async def answered(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.002)  # others are asked meanwhile
        return handler(request)

    transport = httpx.MockTransport(answered)
    monkeypatch.setattr(httpx, "AsyncClient", partial(httpx.AsyncClient, transport=transport))
    for name, value in {"_PHASE": 0.2, "_WITHIN": 0.05, "_CROWD": 12, "_STEADY": 0.3, "_LONG": 20, "_SETTLED": 0.0}.items():
        monkeypatch.setattr(serving_stopwatch, name, value)


def test_a_gateway_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway(resident=18)
    behind(monkeypatch, gateway)
    found = measure_serving("http://gateway", "secret", NAMES)
    lone = [step for step in found.steps if step.first]
    assert [step.tokens for step in lone] == [5 + words for words in serving_stopwatch._LONE]
    assert all(step.adapters == step.rows == 1 for step in lone)
    assert (found.held_mb, found.resident, found.kv_tokens) == (280, 18, 4096)
    assert found.load_seconds == pytest.approx(0.25)
    assert found.notes == ()
    assert found.traffic
    assert all(one.arrival >= 0 and one.took > 0 for one in found.traffic)
    assert {one.answer for one in found.traffic} <= set(serving_stopwatch._ANSWERED)


def test_where_all_adapters_fit_loads_are_those_of_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway(resident=24)
    for name in NAMES.adapters:
        gateway(httpx.Request("POST", "http://gateway/v1", headers={"authorization": "Bearer secret"}, content=_asking(name)))
    behind(monkeypatch, gateway)
    found = measure_serving("http://gateway", "secret", NAMES)
    assert found.load_seconds == found.busy_load_seconds == pytest.approx(0.25)
    (note,) = found.notes
    assert "all named adapters are in memory" in note


def _asking(name: str) -> bytes:
    return json.dumps({"model": name, "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}).encode()


def test_a_gateway_that_refuses_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    behind(monkeypatch, lambda _: httpx.Response(429))
    with pytest.raises(Unavailable, match="status 429") as caught:
        measure_serving("http://gateway", "secret", NAMES)
    assert caught.value.error_code == "serving_unmeasured"


def test_two_names_at_least_are_asked() -> None:
    with pytest.raises(InvalidInput) as caught:
        measure_serving("http://gateway", "secret", MeasuredNames(["acme/a"], 0))
    assert caught.value.error_code == "serving_models"


def test_names_are_chosen_by_a_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(url: str, **_: object) -> httpx.Response:
        listed = {"data": [{"id": name} for name in ("acme/b2", "acme/sorting", "acme/b1")]}
        return httpx.Response(200, json=listed, request=httpx.Request("GET", url))

    monkeypatch.setattr(httpx, "get", get)
    assert names_of("http://gateway/", "secret", "acme/b*") == (["acme/b1", "acme/b2"], 1)
