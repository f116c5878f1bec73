"""Liveness and readiness over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from support.api import gateway
from support.control import HERE, NowClock, session, use_clock, whole_app
from support.serving import DirectDriver, House
from tailorbird.domain.errors import Corrupt, Unavailable
from tailorbird.usecases import Dependencies


def test_readiness_tells_the_truth(house: House) -> None:
    driver = DirectDriver(house)
    driver.away = Unavailable("away", "wait")
    house.point("routing", release := house.release())

    async def run() -> list[tuple[int, Any]]:
        told = []
        async with gateway(house, driver, ready=False) as client:

            async def look() -> None:
                response = await client.get("/readyz")
                said = response.json()
                assert [warning["code"] for warning in said.pop("warnings")] == ["checkpoints_stay"]
                told.append((response.status_code, said))

            assert (await client.get("/healthz")).json()["status"] == "up"
            await asyncio.sleep(0.3)
            await look()
            driver.away, house.refusals[release] = None, Corrupt("x", "y")
            while not (await client.get("/readyz")).json()["engine"]:
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.5)
            await look()
            del house.refusals[release]
            while (await client.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.02)
            await look()
        return told

    starting, refused, ready = asyncio.run(run())
    assert starting == (503, {"ready": False, "ledger": True, "engine": False, "aliases": {"live": 0, "behind": 1}, "failing": []})
    assert refused == (503, {"ready": False, "ledger": True, "engine": True, "aliases": {"live": 0, "behind": 1}, "failing": []})
    assert ready == (200, {"ready": True, "ledger": True, "engine": True, "aliases": {"live": 1, "behind": 0}, "failing": []})


def test_warnings_name_nobody_without_an_admins_session(deps: Dependencies, house: House) -> None:
    use_clock(deps, NowClock())
    app = whole_app(deps, house)

    async def run() -> dict[str, list[dict[str, Any]]]:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url=HERE) as client:
            while (await client.get("/healthz")).json()["warnings"][0]["code"] == "starting":
                await asyncio.sleep(0.01)
            told = {}
            for who, secret in (("", ""), ("viewer", session(deps, "viewer")), ("wrong", "tbs_0"), ("admin", session(deps, "admin"))):
                headers = {"authorization": f"Bearer {secret}"} if secret else {}
                alive, ready = [await client.get(path, headers=headers) for path in ("/healthz", "/readyz")]
                one = alive.json()["warnings"]
                assert ready.json()["warnings"] == one
                assert {alive.headers["cache-control"], ready.headers["cache-control"]} == {"no-store"}
                told[who] = one
            return told

    told = asyncio.run(run())
    named = {one["code"]: one for one in told.pop("admin")}
    assert any("approver" in text for text in named["keys_together"]["texts"])
    for warnings in told.values():
        assert {one["code"]: one for one in warnings} == {code: {"code": code, "count": one["count"]} for code, one in named.items()}
