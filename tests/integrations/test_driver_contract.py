"""What every driver of an engine must do: the same stories on our own engine (twin, two replicas of it, and real model), and on vLLM."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from contextlib import aclosing

import pytest

from support.drivers import (
    Served,
    answer,
    asked,
    replicas_served,
    request,
    torch_served,
    twin_served,
    vllm_replicas_served,
    vllm_served,
)
from support.serving import scoring, writing
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.errors import InvalidInput, NotFound
from tailorbird.domain.prompt import Sampling
from tailorbird.ports.engine import EmbedRequest, EngineDriver, RetrieveRequest

TEXTS = ("my card is lost", "where is my parcel", "please refund me", "how do I top up?")
ENGINES = ["twin", "replicas", pytest.param("torch", marks=pytest.mark.slow), pytest.param("vllm", marks=pytest.mark.vllm)]
ENGINES += [pytest.param("vllm replicas", marks=pytest.mark.vllm)]


@pytest.fixture(scope="module", params=ENGINES)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("engine")
    if request.param == "twin":
        engine = twin_served()
    elif request.param == "replicas":
        engine = replicas_served()
    else:
        base = request.getfixturevalue("base_model_folder")
        real = {"torch": torch_served, "vllm": vllm_served, "vllm replicas": vllm_replicas_served}
        engine = real[request.param](base, folder)
    with engine as running:
        yield running


def test_a_release_is_loaded_asked_and_unloaded(served: Served) -> None:
    first, second, *_ = served.releases

    async def story(driver: EngineDriver) -> None:
        assert (await driver.status()).loaded == ()
        for release in (first, second, first):
            await driver.load(request(release))
        assert set((await driver.status()).loaded) == {first, second}
        state = await driver.status()
        assert {one.release for one in state.releases} == {first, second}
        assert all(one.resident and one.tenant == "acme" for one in state.releases)
        await driver.unload(first)
        await driver.unload(first)
        assert (await driver.status()).loaded == (second,)

    served.run(story)


def test_what_is_not_loaded_is_not_found_and_never_answered_by_another(served: Served) -> None:
    first, second, *_ = served.releases

    async def story(driver: EngineDriver) -> None:
        await driver.load(request(first))
        for release in (second, digest_bytes(b"nobody")):
            with pytest.raises(NotFound):
                await answer(driver, release, TEXTS[0])
        await driver.unload(first)
        with pytest.raises(NotFound):
            await answer(driver, first, TEXTS[0])

    served.run(story)


def test_answers_come_whole_repeat_and_are_counted(served: Served) -> None:
    first = served.releases[0]

    async def story(driver: EngineDriver) -> None:
        await driver.load(request(first))
        text, last = await answer(driver, first, TEXTS[0], Sampling(max_tokens=3))
        assert text
        assert (last.finish_reason, last.completion_tokens) == ("length", 3)
        assert last.prompt_tokens > 0
        assert (await answer(driver, first, TEXTS[0], Sampling(max_tokens=3)))[0] == text
        longer, _ = await answer(driver, first, TEXTS[0], Sampling(max_tokens=6))
        assert longer.startswith(text.rstrip("\ufffd"))

    served.run(story)


def test_a_stop_string_ends_an_answer_and_is_not_shown(served: Served) -> None:
    first = served.releases[0]

    async def story(driver: EngineDriver) -> None:
        await driver.load(request(first))
        whole, _ = await answer(driver, first, TEXTS[0])
        stop = whole[len(whole) // 2 :][:2]
        cut, last = await answer(driver, first, TEXTS[0], Sampling(max_tokens=8, stop=(stop,)))
        assert stop not in cut
        assert whole.startswith(cut)
        assert last.finish_reason == "stop"

    served.run(story)


def test_an_answer_nobody_wants_leaves_the_engine_free(served: Served) -> None:
    first = served.releases[0]

    async def story(driver: EngineDriver) -> None:
        await driver.load(request(first))
        for _ in range(3):
            async with aclosing(await driver.ask(writing(first, asked(TEXTS[0]), Sampling(max_tokens=200)))) as chunks:
                await anext(chunks)
        assert (await answer(driver, first, TEXTS[0]))[0]

    served.run(story)


def test_a_prompt_longer_than_the_context_is_said_to_be(served: Served) -> None:
    first = served.releases[0]

    async def story(driver: EngineDriver) -> None:
        await driver.load(request(first))
        with pytest.raises(InvalidInput) as refused:
            await answer(driver, first, "word " * 9000)
        assert refused.value.error_code == "prompt_too_long"

    served.run(story)


def test_labels_are_scored_or_refused_and_nothing_is_looked_up(served: Served) -> None:
    first = served.releases[0]

    async def story(driver: EngineDriver) -> None:
        await driver.load(request(first))
        labels = ("card", "parcel", "refund")
        if served.scores:
            scores = await driver.ask(scoring(first, asked(TEXTS[0]), labels))
            assert math.isclose(sum(map(math.exp, scores.log_probabilities)), 1, abs_tol=1e-4)
        else:
            with pytest.raises(InvalidInput) as refused:
                await driver.ask(scoring(first, asked(TEXTS[0]), labels))
            assert refused.value.error_code == "scoring_unsupported"
        with pytest.raises(InvalidInput) as looked:
            await driver.ask(RetrieveRequest(release=first, text=TEXTS[0], groups=frozenset({"everyone"}), count=3))
        with pytest.raises(InvalidInput) as embedded:
            await driver.ask(EmbedRequest(release=first, texts=tuple(TEXTS)))
        assert (looked.value.error_code, embedded.value.error_code) == ("retrieval_missing", "embeddings_missing")

    served.run(story)


def test_a_beginning_is_remembered_for_its_own_release_alone(served: Served) -> None:
    """The same prompt to two releases: the second one finds nothing of the first one's. Who asks could tell by the time it takes."""
    first, second, *_ = served.releases

    async def story(driver: EngineDriver) -> None:
        for release in (first, second):
            await driver.load(request(release))
        text = "the parcel that I sent a week ago was never seen again " * 14
        found = [(await answer(driver, release, text))[1].cached_tokens for release in (first, first, second, second)]
        assert found[0] == found[2] == 0
        assert min(found[1], found[3]) >= (16 if served.remembers else 0)

    served.run(story)


def test_nothing_crosses_while_releases_come_and_go(served: Served) -> None:
    *stay, goes = served.releases

    async def story(driver: EngineDriver) -> None:
        for release in stay:
            await driver.load(request(release))
        pairs = [(release, text) for release in stay for text in TEXTS]
        expected = {pair: (await answer(driver, *pair))[0] for pair in pairs}
        if served.distinct:
            assert len({tuple(expected[release, text] for text in TEXTS) for release in stay}) == len(stay)
        asking = asyncio.gather(*(answer(driver, *pair) for _ in range(3) for pair in pairs))
        churned = 0
        while not asking.done() or not churned:
            await driver.load(request(goes))
            await answer(driver, goes, TEXTS[0], Sampling(max_tokens=1))
            await driver.unload(goes)
            churned += 1
        assert [text for text, _ in await asking] == [expected[pair] for pair in pairs] * 3

    served.run(story)
