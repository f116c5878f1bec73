"""Liveness and readiness over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

from support.api import gateway
from support.serving import DirectDriver, House
from tailorbird.domain.errors import Corrupt, Unavailable


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

            assert (await client.get("/healthz")).status_code == 200
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
    assert starting == (503, {"ready": False, "ledger": True, "engine": False, "aliases": {"live": 0, "behind": 1}})
    assert refused == (503, {"ready": False, "ledger": True, "engine": True, "aliases": {"live": 0, "behind": 1}})
    assert ready == (200, {"ready": True, "ledger": True, "engine": True, "aliases": {"live": 1, "behind": 0}})
