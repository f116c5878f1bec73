"""How soon three real gateways on one real PostgreSQL answer by a name's new release, after the commit that moved it.

In: ``names`` of 60 tenants without limits, of which the first of each tenant have two releases. Real: PostgreSQL, gateway processes, engine
processes and the wire between them, API keys, rows of requests. Not real: the model (``twin_gateway``), whose answers name the release that
was asked, and the releases, which have no files to verify.

Names are moved one after another, at moments drawn by a seed: half of the moves while nobody asks anything else, half while other names
are asked at all gateways. From each move on, each gateway is asked for the name, one request after another. A move counts from the moment
before its COMMIT is sent until the first answer by the new release has been read, the slowest gateway's: what the request itself took is
in it. The first move of a name is to a release that no engine holds yet; later ones go back and forth between two that are held.

Out: p50, p99 and the longest over moves (the slowest gateway of each) and over gateways; answers by the former release that were asked for
after the same gateway had answered by the new one, which are to be none.
"""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from gateway_runs import ANSWER_TOKENS, SEED, TENANTS, Gateway, Site, say, served
from twin_gateway import house_of

from support.postgresql import TEMPLATE, running_server
from support.processes import CHAT
from tailorbird.domain.identity import QuotaLimits
from tailorbird.domain.value import Digest

GATEWAYS, BAR_MS = 3, 500
#: Names, those of a tenant that move, moves in all, by how many names were asked for.
SIZES = {10_000: (10_000, 2, 200), 2_000: (2_000, 2, 200), 300: (300, 1, 16)}
#: Requests of other names at once while there is traffic, and the seconds that each who asks waits between two.
ASKING, THINKING = 6, 0.1
#: Requests to each gateway after it has answered by the new release; seconds for which an answer by it is waited for.
AFTERWARDS, PATIENCE = 3, 30.0


@dataclass(frozen=True)
class Sight:
    """When one gateway answered a move: milliseconds since the commit, and later answers by the former release."""

    ms: float
    returned: int = 0


@dataclass
class Watch:
    """Moves names and asks gateways."""

    site: Site
    gateways: Sequence[Gateway]
    client: httpx.AsyncClient
    draw: random.Random = field(default_factory=lambda: random.Random(SEED))
    asked: int = 0
    refused: int = 0
    crowded: bool = False

    async def play(self, moves: int) -> dict[str, list[list[Sight]]]:
        """Sights of each gateway for each move, without other traffic and with it."""
        movable = [path for path, choices in self.site.choices.items() if len(choices) > 1]
        # Every name is moved once before any is moved back.
        order = [path for _ in range(-(-moves // len(movable))) for path in self.draw.sample(movable, len(movable))][:moves]
        found = {"idle": [await self._move(path) for path in order[: moves // 2]]}
        say(f"{moves // 2} moves seen, idle")
        self.crowded = True
        traffic = [asyncio.create_task(self._ask_others()) for _ in range(ASKING)]
        found["busy"] = [await self._move(path) for path in order[moves // 2 :]]
        self.crowded = False
        await asyncio.gather(*traffic)
        return found

    async def _move(self, path: str) -> list[Sight]:
        await asyncio.sleep(self.draw.uniform(0.1, 0.6))
        moved = await asyncio.to_thread(self.site.move, path)
        return await asyncio.gather(*(self._watch(path, moved.release, moved.written, gateway) for gateway in self.gateways))

    async def _watch(self, path: str, release: Digest, written: float, gateway: Gateway) -> Sight:
        deadline = time.monotonic() + PATIENCE
        while await self._answer(path, gateway) != release:
            if time.monotonic() > deadline:
                return Sight(float("inf"))
            await asyncio.sleep(0.02)
        ms = 1000 * (time.monotonic() - written)
        return Sight(ms, sum([await self._answer(path, gateway) != release for _ in range(AFTERWARDS)]))

    async def _ask_others(self) -> None:
        fixed = [path for path, choices in self.site.choices.items() if len(choices) == 1]
        while self.crowded:
            await self._answer(self.draw.choice(fixed), self.draw.choice(self.gateways))
            self.asked += 1
            await asyncio.sleep(THINKING)

    async def _answer(self, path: str, gateway: Gateway) -> str:
        """The release that answers; nothing where none does."""
        body = {"model": path, "max_tokens": ANSWER_TOKENS, "messages": [{"role": "user", "content": "where is my order"}]}
        head = {"authorization": f"Bearer {self.site.keys[path.partition('/')[0]]}"}
        response = await self.client.post(gateway.url + CHAT, json=body, headers=head, timeout=60)
        self.refused += response.status_code != 200
        return response.headers.get("x-tailorbird-release", "") if response.status_code == 200 else ""


def compared(size: int) -> dict[str, Any]:
    """The bar with so many names: the 99th percentile of the slowest gateway's time, in milliseconds."""
    names, movable, moves = SIZES[size]
    with tempfile.TemporaryDirectory(prefix="moves-") as folder, running_server() as server:
        database = server.url(TEMPLATE)
        site = Site(house_of(Path(folder), database), Path(folder), database)
        site.furnish(names, movable, [QuotaLimits()] * TENANTS)
        say(f"{names} names are recorded")
        with served(site, GATEWAYS) as gateways:
            return asyncio.run(_watched(site, gateways, moves)) | {"names": names, "gateways": GATEWAYS}


async def _watched(site: Site, gateways: Sequence[Gateway], moves: int) -> dict[str, Any]:
    async with httpx.AsyncClient(trust_env=False) as client:
        ready = [await gateway.until_ready(client) for gateway in gateways]
        say(f"gateways are ready after {', '.join(f'{each:.0f} s' for each in ready)}")
        load, started = os.getloadavg()[0], time.monotonic()
        watch = Watch(site, gateways, client)
        found = await watch.play(moves)
        took = time.monotonic() - started
    everything = [sights for some in found.values() for sights in some]
    slowest = [max(sight.ms for sight in sights) for sights in everything]
    p99, returned = _cut(slowest, 99), sum(sight.returned for sights in everything for sight in sights)
    return {
        "value": p99, "bar": BAR_MS, "unit": "ms", "less_is_better": True, "holds": p99 <= BAR_MS and not returned,
        "moves": moves, "returned_to_the_former": returned, "refused": watch.refused, "requests_of_other_names": watch.asked,
        "slowest_gateway_ms": {name: _cuts([max(sight.ms for sight in sights) for sights in some]) for name, some in found.items()},
        "each_gateway_ms": [_cuts([sights[number].ms for sights in everything]) for number in range(len(gateways))],
        "ready_seconds": [round(each, 1) for each in ready], "seconds": round(took), "load_before": round(load, 1),
        "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip


def _cuts(values: Sequence[float]) -> dict[str, float]:
    return {f"p{cut}": _cut(values, cut) for cut in (50, 99, 100)}


def _cut(values: Sequence[float], cut: int) -> float:
    """A percentile by nearest rank."""
    return round(sorted(values)[max(0, -(-len(values) * cut // 100) - 1)], 1)
