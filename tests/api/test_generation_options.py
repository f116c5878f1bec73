"""What a caller may ask of text that is written: likeliest tokens, JSON, the top of the distribution; and how it is told."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import httpx
import pytest

from support.api import ASK, CHAT, ask, post
from support.serving import DirectDriver, House
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Sampling
from tailorbird.ports.engine import Chunk, GenerateRequest, TokenChance, TokenLogprob

QUESTION = ASK | {"model": "acme/writer"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


class TellingDriver(DirectDriver):
    """Remembers how it was asked, and tells chances."""

    def __init__(self, house: House, text: str = '{"city": "Ulm"}') -> None:
        super().__init__(house)
        self.text = text
        self.asked: list[Sampling] = []

    async def stream(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        self.asked.append(request.sampling)
        chance = TokenChance(token=self.text, bytes=tuple(self.text.encode()), logprob=-0.5)
        told = (TokenLogprob(**chance.model_dump(), top=(chance,)),) if request.sampling.logprobs is not None else ()
        yield Chunk(text=self.text, logprobs=told)
        yield Chunk(text="", finish_reason="stop", prompt_tokens=7, completion_tokens=9, cached_tokens=4, reasoning_tokens=8)


@pytest.fixture
def driver(house: House) -> TellingDriver:
    house.point("writer", house.release(2, task=TaskKind.GENERATE))
    return TellingDriver(house)


def test_likeliest_tokens_are_told_as_openai_tells_them(house: House, driver: TellingDriver) -> None:
    body = QUESTION | {"logprobs": True, "top_logprobs": 1, "top_k": 5}
    answer = post(house, body, driver).json()
    (token,) = answer["choices"][0]["logprobs"]["content"]
    assert (token["token"], token["logprob"]) == (driver.text, -0.5)
    assert token["top_logprobs"] == [{"token": driver.text, "logprob": -0.5, "bytes": list(driver.text.encode())}]
    assert answer["usage"] == {
        "prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16, "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 8},
    }  # fmt: skip
    assert (driver.asked[0].logprobs, driver.asked[0].top_k) == (1, 5)


@pytest.mark.parametrize(
    ("asked", "passed"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, "{}"),
        ({"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA, "strict": True}}, '"city"'),
    ],
)
def test_json_is_asked_of_the_engine(house: House, driver: TellingDriver, asked: dict[str, object], passed: str | None) -> None:
    assert post(house, QUESTION | {"response_format": asked}, driver).status_code == 200
    found = driver.asked[0].json_schema
    assert found is None if passed is None else found is not None and passed in found
    assert not house.rows()[0].malformed


def test_what_is_not_the_json_that_was_asked_for_is_malformed(house: House, driver: TellingDriver) -> None:
    driver.text = '{"city": "Ul'
    post(house, QUESTION | {"response_format": {"type": "json_object"}}, driver)
    assert house.rows()[0].malformed


@pytest.mark.parametrize(
    "wrong",
    [
        {"top_logprobs": 3},
        {"logprobs": True, "top_logprobs": 21},
        {"response_format": {"type": "json_schema"}},
        {"response_format": {"type": "xml"}},
        {"top_k": -1},
    ],
)
def test_nonsense_is_refused(house: House, driver: TellingDriver, wrong: dict[str, object]) -> None:
    answer = post(house, QUESTION | wrong, driver)
    assert answer.status_code == 400
    assert not driver.asked


@pytest.mark.parametrize("asked", [{"logprobs": True}, {"response_format": {"type": "json_object"}}])
def test_a_model_that_classifies_has_no_use_for_it(house: House, driver: TellingDriver, asked: dict[str, object]) -> None:
    house.point("routing", house.release())

    async def story(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post(CHAT, json=ASK | asked)

    error = ask(house, story, driver).json()["error"]
    assert (error["code"], error["param"]) == ("unsupported_parameter", next(iter(asked)))
