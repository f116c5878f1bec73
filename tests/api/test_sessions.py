"""Logging in and out over HTTP, and whose session a request shows."""

from __future__ import annotations

import asyncio
from secrets import token_hex
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI

from support.control import HERE, act, ask, code, opening, session
from tailorbird import api, auth
from tailorbird.auth import Throttle
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.identity import Login
from tailorbird.usecases import Actor, Dependencies
from tailorbird.usecases.identities import disable
from tailorbird.usecases.sessions import LoginEntry

LOGIN, ME, END = "/api/sessions", "/api/session", "/api/sessions/current"


def test_who_proves_who_they_are_gets_a_session(deps: Dependencies) -> None:
    async def story(client: httpx.AsyncClient) -> list[httpx.Response]:
        opened = await client.post(LOGIN, json=opening(act(deps, "author"), deps))
        shown = {"authorization": f"Bearer {opened.json()['secret']}"}
        me = await client.get(ME, headers=shown)
        ended = await client.delete(END, headers=shown)
        return [opened, me, ended, await client.get(ME, headers=shown)]

    opened, me, ended, after = ask(deps, story)
    assert opened.status_code == 200
    assert opened.headers["cache-control"] == "no-store"
    assert "set-cookie" not in opened.headers
    assert opened.json()["identity"]["name"] == "author"
    assert (me.status_code, me.json()["roles"]) == (200, ["author"])
    assert (ended.status_code, ended.content) == (204, b"")
    assert code(after) == (401, "session_ended")


def test_a_login_for_another_server_cannot_be_passed_on(deps: Dependencies) -> None:
    """Whoever runs the other one may say that he is this one: what a request says of its host proves nothing."""

    async def story() -> list[httpx.Response]:
        app = FastAPI()
        app.include_router(api.control_routes(LoginEntry(deps, {HERE})))
        api.add_error_handlers(app)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://elsewhere") as client:
            wrong = [opening(act(deps, "author"), deps, server) for server in ("https://elsewhere", "https://control", "http://control:81")]
            changed = opening(act(deps, "author"), deps, "https://elsewhere")
            changed["login"]["server"] = HERE
            return [await client.post(LOGIN, json=body) for body in (*wrong, changed, opening(act(deps, "author"), deps))]

    *refused, changed, taken = asyncio.run(story())
    assert [code(answer) for answer in refused] == [(401, "login_elsewhere")] * 3
    assert code(changed) == (401, "login_refused")
    assert taken.status_code == 200


def test_what_is_wrong_with_a_name_is_not_told(deps: Dependencies) -> None:
    """No such tenant, no such identity, another's key, a disabled identity: the same answer."""
    disabled = opening(act(deps, "viewer"), deps)
    disable(deps, act(deps, "admin"), "viewer")
    foreign = opening(act(deps, "author", "globex"), deps)
    foreign["login"]["tenant"] = "acme"
    nobody = opening(act(deps, "author"), deps)
    nobody["login"]["identity"] = "nobody"
    nowhere = opening(act(deps, "author"), deps)
    nowhere["login"]["tenant"] = "nowhere"

    async def story(client: httpx.AsyncClient) -> list[Any]:
        return [(await client.post(LOGIN, json=body)).json() for body in (disabled, foreign, nobody, nowhere)]

    first, *others = ask(deps, story)
    assert first["error"]["code"] == "login_refused"
    assert all(other == first for other in others)


@pytest.mark.parametrize(
    ("spoil", "param"),
    [
        ({"login": None}, "login"),
        ({"login": {}}, "login.tenant"),
        ({"more": 1}, "more"),
        ({"signature": {"at": "noon"}}, "signature.identity"),
    ],
)
def test_a_malformed_login_names_its_fault(deps: Dependencies, spoil: dict[str, Any], param: str) -> None:
    async def story(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post(LOGIN, json=opening(act(deps, "author"), deps) | spoil)

    refused = ask(deps, story)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == param


def test_refused_logins_are_slowed_down(deps: Dependencies) -> None:
    async def story(client: httpx.AsyncClient) -> tuple[list[int], httpx.Response]:
        wrong = opening(act(deps, "author"), deps)
        wrong["login"]["identity"] = "nobody"
        statuses = [(await client.post(LOGIN, json=wrong)).status_code for _ in range(10)]
        return statuses, await client.post(LOGIN, json=wrong)

    statuses, throttled = ask(deps, story)
    assert statuses == [401] * 10
    assert code(throttled) == (429, "login_throttled")
    assert 50 < int(throttled.headers["retry-after"]) <= 60


@pytest.mark.parametrize("signed", [True, False])
def test_what_one_gets_wrong_keeps_no_other_out(deps: Dependencies, signed: bool) -> None:
    """On loopback all have one address: who names somebody else signs with another key, or with none."""

    async def story(client: httpx.AsyncClient) -> tuple[set[int], httpx.Response]:
        stranger = Actor(act(deps, "operator").identity, act(deps, "viewer").sign)
        refused = set()
        for _ in range(15):
            wrong = opening(stranger, deps)
            if not signed:
                wrong["signature"]["public_key"] = stranger.identity.public_key
            refused.add((await client.post(LOGIN, json=wrong)).status_code)
        return refused, await client.post(LOGIN, json=opening(act(deps, "operator"), deps))

    refused, opened = ask(deps, story)
    assert refused == {401, 429}
    assert opened.status_code == 200


def test_an_address_is_slowed_down_whatever_keys_it_tries(deps: Dependencies) -> None:
    entrance = LoginEntry(deps, {HERE}, of_address=Throttle(most=3))

    def codes(*names: str) -> list[str]:
        return [entered(entrance, deps, name) for name in names]

    assert codes("author", *["nobody"] * 4, "operator", "author") == ["", *["login_refused"] * 3, *["login_throttled"] * 2, ""]


def entered(entrance: LoginEntry, deps: Dependencies, name: str) -> str:
    """The code of the refusal of a login, with a key that is new where nobody has the name."""
    key = auth.load_key(deps.workspace / "keys" / "acme" / f"{name}.key") if name != "nobody" else Ed25519PrivateKey.generate()
    login = Login(tenant="acme", identity=name, server=HERE, nonce=token_hex(16), at=deps.clock.now())
    try:
        entrance.open(login, auth.sign(key, name, "login", digest_of(login), deps.clock.now()), "127.0.0.1")
    except TailorbirdError as error:
        return error.error_code
    return ""


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic abc", "Bearer tb_000000000000_" + "A" * 43, "Bearer tbs_" + "0" * 76])
def test_without_a_good_session_nothing_is_told(deps: Dependencies, header: str) -> None:
    refused = ask(deps, lambda client: client.get(ME, headers={"authorization": header}))
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == "Bearer"
    assert code(refused)[1] in ("unauthenticated", "session_malformed")


def test_a_cookie_is_no_session_of_the_api(deps: Dependencies) -> None:
    async def story(client: httpx.AsyncClient) -> httpx.Response:
        client.cookies.set("tailorbird_session", session(deps, "admin"))
        return await client.post("/api/keys", json={"name": "robot"}, headers={"sec-fetch-site": "same-origin"})

    assert code(ask(deps, story)) == (401, "unauthenticated")
