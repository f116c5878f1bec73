"""A request for a name whose first release is being loaded waits for it, for a while, and is told at once where that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import httpx
import pytest

from support.api import ASK, CHAT, gateway
from support.serving import DirectDriver, House
from tailorbird.api import answers
from tailorbird.domain.errors import Unavailable
from tailorbird.domain.identity import QuotaLimits
from tailorbird.serving import alias_routes

SUSPENDED = datetime(2026, 1, 1, tzinfo=UTC)
Story = Callable[[httpx.AsyncClient, DirectDriver, str], Awaitable[None]]


def run(house: House, story: Story) -> None:
    """With a gateway, and a release that its engine is loading."""
    _, secret = house.key()
    driver, release = DirectDriver(house), house.release()
    driver.held_up[release] = asyncio.Event()

    async def played() -> None:
        async with gateway(house, driver, ready=False) as client:
            client.headers["authorization"] = f"Bearer {secret}"
            house.point("routing", release)
            while (await client.get("/readyz")).json()["aliases"]["behind"] != 1 or release not in driver.loads:
                await asyncio.sleep(0.01)
            await story(client, driver, release)

    asyncio.run(played())


def test_it_is_answered_once_the_release_is_loaded(house: House) -> None:
    async def story(client: httpx.AsyncClient, driver: DirectDriver, release: str) -> None:
        asked = [asyncio.create_task(client.post(CHAT, json=ASK)) for _ in range(3)]
        done, _ = await asyncio.wait(asked, timeout=1.0)
        assert not done
        driver.held_up[release].set()
        answers = await asyncio.gather(*asked)
        assert [answer.status_code for answer in answers] == [200] * 3

    run(house, story)
    assert [row.status for row in house.rows()] == [200] * 3


def test_it_waits_for_so_long_and_no_longer(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "_LOADING", 0.05)

    async def story(client: httpx.AsyncClient, _driver: DirectDriver, _release: str) -> None:
        answer = await client.post(CHAT, json=ASK)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "model_loading")

    run(house, story)


AWAY = Unavailable("the engine is away", "start it")


def test_it_is_waited_for_while_the_engine_starts(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    _, secret = house.key()
    driver = DirectDriver(house)
    driver.away = AWAY
    house.point("routing", house.release())

    async def played() -> list[int]:
        async with gateway(house, driver, ready=False) as client:
            client.headers["authorization"] = f"Bearer {secret}"
            asked = [asyncio.create_task(client.post(CHAT, json=ASK)) for _ in range(2)]  # before the record was read, too
            done, _ = await asyncio.wait(asked, timeout=1.0)
            assert not done
            missing = await asyncio.wait_for(client.post(CHAT, json=ASK | {"model": "acme/nothing"}), 4)
            assert missing.status_code == 404
            driver.away = None
            told = [answer.status_code for answer in await asyncio.gather(*asked)]
            driver.away, other = AWAY, ASK | {"model": "acme/other"}
            house.point("other", house.release(2))
            answer = await asyncio.wait_for(client.post(CHAT, json=other), 4)
            while answer.status_code == 404:  # the move was not seen yet
                answer = await asyncio.wait_for(client.post(CHAT, json=other), 4)
            assert answer.json()["error"]["code"] == "model_loading", "an engine that has answered and is away is waited for by nobody"
            return [*told, answer.status_code]

    monkeypatch.setattr(answers, "_LOADING", 30.0)
    assert asyncio.run(played()) == [200, 200, 503]


def test_a_key_that_may_not_ask_a_staged_name_does_not_wait_for_it(house: House) -> None:
    async def story(client: httpx.AsyncClient, driver: DirectDriver, release: str) -> None:
        driver.held_up[other := house.release(2)] = asyncio.Event()
        house.point("routing", other, stage="staging")
        answer = await asyncio.wait_for(client.post(CHAT, json=ASK | {"model": "acme/routing@staging"}), 4)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "scope_missing")

    run(house, story)


def test_who_waits_holds_the_request_that_it_is(house: House) -> None:
    """A limit of two: two wait, the third is refused at once, and what was held for waiting is given back when it is over."""
    with house.ledger.system() as system:
        tenant = system.tenants.get("acme")
        system.tenants.replace(tenant.model_copy(update={"limits": QuotaLimits(requests_per_minute=2)}))

    async def story(client: httpx.AsyncClient, driver: DirectDriver, release: str) -> None:
        waiting = [asyncio.create_task(client.post(CHAT, json=ASK)) for _ in range(2)]
        done, _ = await asyncio.wait(waiting, timeout=0.5)
        assert not done
        answer = await asyncio.wait_for(client.post(CHAT, json=ASK), 4)
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "quota_requests")
        driver.held_up[release].set()
        assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200, 200]

    run(house, story)


@pytest.mark.parametrize("change", [{"suspended_at": SUSPENDED}, {"limits": QuotaLimits(requests_per_minute=0)}])
def test_who_may_ask_nothing_does_not_wait_and_hurries_no_load(
    house: House, monkeypatch: pytest.MonkeyPatch, change: dict[str, object]
) -> None:
    hurried, held = list[str](), alias_routes.AliasRoutes.until_loaded
    with house.ledger.system() as system:
        system.tenants.replace(system.tenants.get("acme").model_copy(update=change))

    async def counted(routes: alias_routes.AliasRoutes, path: str, seconds: float) -> None:
        hurried.append(path)
        await held(routes, path, seconds)

    monkeypatch.setattr(alias_routes.AliasRoutes, "until_loaded", counted)

    async def story(client: httpx.AsyncClient, _driver: DirectDriver, _release: str) -> None:
        answer = await asyncio.wait_for(client.post(CHAT, json=ASK), 4)
        assert answer.status_code == (403 if "suspended_at" in change else 429)

    run(house, story)
    assert hurried == []


def test_nobody_waits_for_a_name_of_another_tenant(house: House) -> None:
    async def story(client: httpx.AsyncClient, _driver: DirectDriver, _release: str) -> None:
        _, secret = house.key("globex")
        client.headers["authorization"] = f"Bearer {secret}"
        answer = await asyncio.wait_for(client.post(CHAT, json=ASK), 4)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")

    run(house, story)
