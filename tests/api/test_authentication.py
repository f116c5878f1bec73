"""Who may ask: keys, and how soon a change of one counts."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from types import SimpleNamespace

import httpx
import pytest

from support.api import CHAT, gateway
from support.serving import DirectDriver, House
from tailorbird import auth
from tailorbird.api import authentication
from tailorbird.api.authentication import MOST_WRONG
from tailorbird.domain.errors import Unauthenticated, Unavailable
from tailorbird.processes.gateway import gateway_app


def status(house: House, header: str | None, path: str = "/v1/models") -> httpx.Response:
    async def run() -> httpx.Response:
        async with gateway(house, DirectDriver(house)) as client:
            return await client.get(path, headers={} if header is None else {"authorization": header})

    return asyncio.run(run())


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Basic abc", "Bearer sk-123", "Bearer tb_000000000000_" + "A" * 43, "Bearer tb_ä"]
)
def test_without_a_good_key_nothing_is_told(house: House, header: str | None) -> None:
    response = status(house, header.encode() if header else header)  # type: ignore[arg-type]
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    error = response.json()["error"]
    assert error["type"] == "authentication_error"
    assert error["hint"]


def test_a_wrong_secret_is_refused_like_an_unknown_key(house: House) -> None:
    key, secret = house.key()
    wrong = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    _, unknown = auth.issue_api_key("acme", "robot", house.clock.now())
    assert status(house, f"Bearer {wrong}").json() == status(house, f"Bearer {unknown}").json()
    assert status(house, f"bearer {secret}").status_code == 200
    assert key.id in secret


def test_an_expired_key_is_refused(house: House) -> None:
    _, secret = house.key(expires_at=house.clock.now() + timedelta(hours=1))
    assert status(house, f"Bearer {secret}").status_code == 200
    house.clock.advance(timedelta(hours=1))
    assert status(house, f"Bearer {secret}").json()["error"]["code"] == "expired_api_key"


def test_the_key_is_asked_for_before_the_body_is_read(house: House) -> None:
    async def run() -> httpx.Response:
        async with gateway(house, DirectDriver(house)) as client:
            return await client.post(CHAT, content=b"{" * 2_000_000)

    assert asyncio.run(run()).status_code == 401


def test_a_revocation_counts_within_a_second_and_a_new_key_at_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(authentication, "time", SimpleNamespace(monotonic=lambda: clock.seconds))
    key, secret = house.key()
    fresh, fresh_secret = auth.issue_api_key("acme", "robot", house.clock.now())

    async def run() -> None:
        finder = authentication.Authenticator(house.ledger, house.clock)
        with pytest.raises(Unauthenticated):
            await finder.key_of(fresh_secret)
        with house.ledger.work("acme") as work:
            work.keys.add(fresh)
        assert await finder.key_of(fresh_secret) == fresh
        assert await finder.key_of(secret) == key
        with house.ledger.work("acme") as work:
            work.keys.revoke(key.id, house.clock.now())
        clock.seconds = 1.01
        with pytest.raises(Unauthenticated):
            await finder.key_of(secret)

    asyncio.run(run())


def test_a_key_is_believed_for_ten_seconds_while_the_record_is_away(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        clock = SimpleNamespace(seconds=0.0)
        monkeypatch.setattr(authentication, "time", SimpleNamespace(monotonic=lambda: clock.seconds))
        finder = authentication.Authenticator(house.ledger, house.clock)
        (key, secret), (_, other) = house.key(), house.key()
        assert await finder.key_of(secret) == key
        with monkeypatch.context() as away:
            away.setattr(house.ledger, "system", no_record)
            for clock.seconds in (2.0, 5.0, 9.0):
                assert await finder.key_of(secret) == key
            with pytest.raises(Unavailable):
                await finder.key_of(other)
            with pytest.raises(Unauthenticated):
                await finder.key_of(secret[:-2] + ("AA" if secret[-2:] != "AA" else "BB"))
            clock.seconds = 11.0
            with pytest.raises(Unavailable):
                await finder.key_of(secret)
        assert await finder.key_of(secret) == key
        with house.ledger.work("acme") as work:
            work.keys.revoke(key.id, house.clock.now())
        clock.seconds = 13.0
        with pytest.raises(Unauthenticated):
            await finder.key_of(secret)

    asyncio.run(run())


def no_record(*, write: bool = True) -> None:
    raise Unavailable("away", "wait", code="database_unreachable")


def test_wrong_keys_are_slowed_down_and_right_ones_go_on(house: House) -> None:
    """From one address; who was right from there before goes on, and so does everybody from elsewhere."""
    _, secret = house.key()

    async def run() -> tuple[list[int], httpx.Response, int, int]:
        app = gateway_app(house.deps, [DirectDriver(house)])
        async with app.router.lifespan_context(app):
            clients = [
                httpx.AsyncClient(transport=httpx.ASGITransport(app, client=(address, 1)), base_url="http://gateway")
                for address in ("2001:db8::1", "2001:db8::2", "192.0.2.1")
            ]

            async def models(client: httpx.AsyncClient, shown: str) -> httpx.Response:
                return await client.get("/v1/models", headers={"authorization": f"Bearer {shown}"})

            assert (await models(clients[0], secret)).status_code == 200
            wrong = [auth.issue_api_key("acme", "robot", house.clock.now())[1] for _ in range(2 * MOST_WRONG)]
            statuses = [(await models(clients[0], each)).status_code for each in wrong]
            _, other = house.key()
            throttled = await models(clients[1], other)
            right, elsewhere = (await models(clients[0], secret)).status_code, (await models(clients[2], other)).status_code
            for client in clients:
                await client.aclose()
            return statuses, throttled, right, elsewhere

    statuses, throttled, right, elsewhere = asyncio.run(run())
    assert statuses == [401] * MOST_WRONG + [429] * MOST_WRONG
    assert (throttled.status_code, throttled.json()["error"]["code"]) == (429, "keys_throttled")
    assert 0 < int(throttled.headers["retry-after"]) <= 60
    assert (right, elsewhere) == (200, 200)
