"""What is special about the driver of vLLM: the bare base, what it refuses, and where it may listen."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.drivers import KEY, adapted, answer, asked, request, running_vllm, servable
from tailorbird.domain.errors import Conflict, InvalidInput
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import PromptSpec, Sampling
from tailorbird.integrations.vllm import open_driver


@pytest.fixture(scope="module")
def server(base_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_vllm(base_model_folder, tmp_path_factory.mktemp("vllm") / "log") as url:
        yield url


@pytest.mark.vllm
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_bare_base_answers_as_our_engine_does_and_never_beside_adapters(server: str, base_model_folder: Path, tmp_path: Path) -> None:
    from tailorbird.inference import open_engine

    base, first, *_ = servable("base", base_model_folder), *adapted(base_model_folder, tmp_path)
    served = {each.id: each for each in (base, first)}
    ours = open_engine("fp32")
    ours.load(base)
    (own,) = ours.generate(base.id, [asked("my card is lost")], Sampling(max_tokens=8))

    async def story() -> None:
        driver = open_driver(server, KEY, "base", lambda wanted: served[wanted.release])
        try:
            await driver.load(request(base.id))
            text, last = await answer(driver, base.id, "my card is lost")
            assert (text, last.prompt_tokens) == (own.text, own.prompt_tokens)
            with pytest.raises(Conflict):
                await driver.load(request(first.id))
        finally:
            await driver.close()

    asyncio.run(story())


@pytest.mark.vllm
def test_two_tenants_on_the_bare_base_share_no_beginning(server: str, base_model_folder: Path) -> None:
    one, two = servable("one", base_model_folder), servable("two", base_model_folder, tenant="globex")
    served = {each.id: each for each in (one, two)}

    async def story() -> None:
        driver = open_driver(server, KEY, "base", lambda wanted: served[wanted.release])
        try:
            for each in (one, two):
                await driver.load(request(each.id).model_copy(update={"tenant": each.tenant}))
            found = [(await answer(driver, each.id, "where is my parcel? " * 40))[1].cached_tokens for each in (one, one, two, two)]
        finally:
            await driver.close()
        assert found[0] == found[2] == 0
        assert min(found[1], found[3]) >= 16

    asyncio.run(story())


def test_a_vllm_that_others_can_reach_is_refused() -> None:
    for url in ("http://10.0.0.1:8000", "http://example.org:8000"):
        with pytest.raises(InvalidInput):
            open_driver(url, "", "base", lambda _: servable("base"))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"weights": "w"}, "driver_unable"),
        ({"task": TaskKind.CLASSIFY}, "scoring_unsupported"),
        ({"prompt": PromptSpec(instruction="", thinking=True)}, "scoring_unsupported"),
    ],
)
def test_what_it_cannot_serve_is_refused_before_anything_is_sent(changes: dict[str, Any], code: str) -> None:
    whole = servable("whole", **changes)

    async def story() -> None:
        driver = open_driver("http://127.0.0.1:9", "", "base", lambda _: whole)
        with pytest.raises((Conflict, InvalidInput)) as refused:
            await driver.load(request(whole.id))
        assert refused.value.error_code == code
        await driver.close()

    asyncio.run(story())
