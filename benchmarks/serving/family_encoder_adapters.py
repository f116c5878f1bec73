"""Adapters of many tenants on one encoder, through the gateway: eight tenants mixed, 16 requests at a time; and a thousand adapters asked
as Zipf says, of which the budget holds a part.

Adapters and heads of 20 labels are random (rank 16, the upper half of MiniLM's layers): this is about speed. That nobody is answered by
another's adapter is seen beside it: each answer under load is compared with that of the same text asked alone. Gateway, engine and client
share the machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from engines import ROOT, WORK, free_port, messages, process
from loading import CHAT, LIMITS, body
from own import ENGINE_SECRET
from run import Bar, Measured, say

from support.encoder_adapters import linear_shapes, write_adapted_floor
from support.serving import House, make_release
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.deployment import Alias, AliasTarget
from tailorbird.domain.identity import Tenant
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import PromptSpec
from tailorbird.domain.release import Release

BARS: dict[str, Bar] = {
    "encoder_adapters_answers_a_second": (150, 400, "answers/s", False),
    "encoder_adapters_p95_ms": (200, 100, "ms", True),
    "encoder_adapters_of_another": (0, 0, "answers", True),
    "encoder_adapters_p95_past_the_cache": (3, 1.5, "ratio", True),
    "encoder_adapters_memory_over_budget": (0, 0, "bytes", True),
}
HERE = Path(__file__).resolve().parent
TENANTS, TOGETHER, RANK, WIDTH, UPPER, MADE = 8, 16, 16, 384, 3, 32
LABELS = tuple(f"label {number}" for number in range(20))


@dataclass(frozen=True)
class Asked:
    """A gateway that answers; each name's tenant and path, and the tenants' keys."""

    port: int
    names: tuple[tuple[str, str], ...]
    secrets: dict[str, str]
    engine: Path

    def state(self) -> dict[str, Any]:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self.engine))) as client:
            head = {"authorization": f"Bearer {ENGINE_SECRET}"}
            return dict(client.get("http://engine/status", headers=head, timeout=60).raise_for_status().json())


@dataclass
class Load:
    """What some traffic found: seconds of each request, seconds in all, and answers that were not those of the text asked alone."""

    waits: list[float] = field(default_factory=list)
    seconds: float = 0.0
    wrong: int = 0

    @property
    def told(self) -> dict[str, float]:
        cuts = quantiles(self.waits, n=20)
        rate = len(self.waits) / self.seconds
        return {"answers a second": round(rate, 1), "p50 ms": round(1000 * median(self.waits), 1), "p95 ms": round(1000 * cuts[-1], 1)}


def measure(quick: bool) -> Measured:
    runs, count = (1, 400) if quick else (3, 3_000)
    with served(TENANTS, 4096) as server:
        mixed = [asyncio.run(load(server, _evenly(server, run, count), compared=True)) for run in range(runs)]
    say(f"{TENANTS} tenants mixed: {[one.told for one in mixed]}")
    registered, within, budget = (120, 24, 180) if quick else (1_000, 200, 512)
    asked = 400 if quick else 2_000
    with served(registered, budget) as server:
        cached, past, over = [], [], 0
        for run in range(runs):
            for names, found in ((within, cached), (registered, past)):
                asyncio.run(load(server, _zipf(server, names, 10 + run, asked // 4)))  # what it begins with is not measured
                found.append(asyncio.run(load(server, _zipf(server, names, 20 + run, asked))))
                state = server.state()
                over = max(over, state["memory_used"] - state["memory_budget"])
        residents = sum(one["resident"] for one in state["releases"])
    say(f"{within} names: {[one.told for one in cached]}; {registered} names: {[one.told for one in past]}")
    requests, missed = sum(one["requests"] for one in state["releases"]), sum(max(0, one["loads"] - 1) for one in state["releases"])
    values = {
        "encoder_adapters_answers_a_second": median(one.told["answers a second"] for one in mixed),
        "encoder_adapters_p95_ms": median(one.told["p95 ms"] for one in mixed),
        "encoder_adapters_of_another": sum(one.wrong for one in mixed),
        "encoder_adapters_p95_past_the_cache": round(
            median(b.told["p95 ms"] / a.told["p95 ms"] for a, b in zip(cached, past, strict=True)), 2
        ),
        "encoder_adapters_memory_over_budget": over,
    }
    detail = {"mixed": [one.told for one in mixed], "within": [one.told for one in cached], "past": [one.told for one in past]}
    detail |= {"registered": registered, "resident": residents, "budget_mb": budget, "names within": within}
    return Measured(values, detail | {"read again, of all requests": round(missed / requests, 3)})


@contextmanager
def served(count: int, memory_mb: int) -> Iterator[Asked]:
    """A gateway before an engine with ``count`` adapters, of so many tenants as there are, at most eight."""
    with TemporaryDirectory() as folder:
        house = House(Path(folder))
        names, secrets = _furnish(house, count)
        port, socket = free_port(), Path(folder) / "engine.sock"
        paths = {"PYTHONPATH": os.pathsep.join([str(HERE), str(ROOT / "tests"), *sys.path])}
        engine = [sys.executable, str(HERE / "encoder_engine.py"), folder, str(socket), str(memory_mb)]
        gateway = [sys.executable, str(HERE / "own_gateway.py"), folder, str(port), str(socket)]
        (Path(folder) / "proofs.json").write_text("{}")
        ready = f"http://127.0.0.1:{port}/readyz"
        with process(engine, f"unix:{socket}", ENGINE_SECRET, **paths), process(gateway, ready, "", **paths):
            say(f"{count} adapters answer")
            yield Asked(port, names, secrets, socket)
        house.ledger.close()


def _furnish(house: House, count: int) -> tuple[tuple[tuple[str, str], ...], dict[str, str]]:
    """Tenants with keys, a release and a name for each adapter, and the file in which the engine finds what to load."""
    tenants = [f"tenant{number}" for number in range(TENANTS)]
    with house.ledger.system() as system:
        for tenant in tenants:
            system.tenants.add(Tenant(name=tenant, created_at=house.clock.now(), limits=LIMITS))
    secrets = {tenant: house.key(tenant)[1] for tenant in tenants}
    made = [_release(tenants[number % TENANTS], number, house) for number in range(count)]
    for tenant in tenants:
        with house.ledger.work(tenant) as work:  # one transaction each: a thousand would wait for the disk a thousand times
            for number, release in enumerate(made):
                if release.content.tenant == tenant:
                    work.releases.add(release)
                    targets = (AliasTarget(release=release.digest),)
                    alias = Alias(tenant=tenant, name=f"intents-{number}", targets=targets, moved_at=house.clock.now(), moved_by="olga")
                    work.aliases.put(alias)
    folders = {release.digest: str(adapter_folder(number)) for number, release in enumerate(made)}
    (house.folder / "servables.json").write_text(json.dumps({"encoder": str(encoder_folder()), **folders}))
    names = [(release.content.tenant, f"{release.content.tenant}/intents-{number}") for number, release in enumerate(made)]
    return tuple(names), secrets


def _release(tenant: str, number: int, house: House) -> Release:
    """A release of 20 labels, which nobody signed."""
    made = make_release(tenant, number, TaskKind.CLASSIFY, house.clock.now())
    content = made.content.model_copy(update={"prompt": PromptSpec(instruction="Classify the message.", labels=LABELS)})
    dossier = made.dossier.model_copy(update={"release": digest_of(content)})
    return made.model_copy(update={"content": content, "digest": dossier.release, "dossier": dossier})


def encoder_folder() -> Path:
    models = Path(os.environ.get("TAILORBIRD_MODELS", ROOT / ".cache" / "models"))
    return next(path.parent for path in models.glob("minilm-l6-v2-*/encoder.json"))


def adapter_folder(number: int) -> Path:
    """The folder of an adapter. Those beyond the first ones are links: a thousand names, a thousand copies in memory."""
    place = WORK / f"encoder-adapters-r{RANK}"
    folder, first = place / str(number), place / str(number % MADE)
    if not (first / "floor.json").is_file():
        write_adapted_floor(first, linear_shapes(encoder_folder(), UPPER), LABELS, number % MADE, RANK, WIDTH)
    if folder != first and not (folder / "floor.json").is_file():
        for path in (each for each in first.rglob("*") if each.is_file()):
            link = folder / path.relative_to(first)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.hardlink_to(path)
    return folder


Work = Sequence[tuple[tuple[str, str], str]]


def _evenly(server: Asked, seed: int, count: int) -> Work:
    draw = random.Random(seed)
    return [(draw.choice(server.names), draw.choice(messages())) for _ in range(count)]


def _zipf(server: Asked, names: int, seed: int, count: int) -> Work:
    """Requests for the first ``names``, the one at place n as often as 1 / n says."""
    draw, weights = random.Random(seed), [1 / (place + 1) for place in range(names)]
    return [(server.names[place], draw.choice(messages())) for place in draw.choices(range(names), weights, k=count)]


async def load(server: Asked, work: Work, *, compared: bool = False) -> Load:
    """``work``, 16 at a time over connections that stay; ``compared`` with the answers of each text asked by itself before."""
    found, expected = Load(), dict[tuple[str, str], str]()
    if compared:
        connection = await Connection.open(server)
        for (_, name), text in dict.fromkeys(work):
            expected[name, text] = await connection.ask(name, text)
        connection.close()
    waiting = iter(work)

    async def client() -> None:
        connection = await Connection.open(server)
        for (_, name), text in waiting:
            started = time.perf_counter()
            answer = await connection.ask(name, text)
            found.waits.append(time.perf_counter() - started)
            found.wrong += answer != expected.get((name, text), answer)
        connection.close()

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(TOGETHER)))
    found.seconds = time.perf_counter() - started
    return found


@dataclass(frozen=True)
class Connection:
    """A connection that stays open, and does little itself: what the client takes, the gateway lacks."""

    server: Asked
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @staticmethod
    async def open(server: Asked) -> Connection:
        return Connection(server, *await asyncio.open_connection("127.0.0.1", server.port))

    async def ask(self, name: str, text: str) -> str:
        """The label. Raises RuntimeError for another status than 200."""
        sent = body(name, text)
        secret = self.server.secrets[name.partition("/")[0]]
        head = f"POST {CHAT} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {secret}\r\ncontent-type: application/json\r\n"
        self.writer.write(f"{head}content-length: {len(sent)}\r\n\r\n".encode() + sent)
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
        told = await self.reader.readexactly(length)
        if " 200 " not in lines[0]:
            raise RuntimeError(told.decode())
        answer: str = json.loads(told)["choices"][0]["message"]["content"]
        return answer

    def close(self) -> None:
        self.writer.close()
