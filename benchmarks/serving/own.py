"""Ours, as a user has it: a gateway process and an engine process, asked over HTTP with an API key.

In: folders of adapters. Out: a gateway in front of an engine, with a name for the base, one for each adapter and one for a classifier of 77
labels. What differs from production: releases are plain folders, so nothing is verified when they are loaded.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from engines import RANK, ROOT, SYSTEM, TOKENS, WORK, Ask, adapters, base_model, free_port, labels, process
from loading import LIMITS
from run import say
from serving_kit import House, make_release
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import PromptSpec
from tailorbird.domain.value import Digest
from tailorbird.foundations.canonical import digest_of

HERE = Path(__file__).resolve().parent
ENGINE_SECRET = "benchmark"
SORTING = "Classify the customer message into one intent."


@dataclass(frozen=True)
class Own:
    """A gateway that answers; the engine behind it."""

    url: str
    secret: str
    engine_url: str
    house: House

    @property
    def head(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.secret}"}

    def engine_state(self) -> dict[str, Any]:
        head = {"authorization": f"Bearer {ENGINE_SECRET}"}
        return dict(httpx.get(f"{self.engine_url}/state", headers=head, timeout=60).raise_for_status().json())


@contextmanager
def own(count: int, memory_mb: int = 4096) -> Iterator[Own]:
    """Ours with ``count`` adapters, once every name answers."""
    made = adapters(min(count, 32))
    with TemporaryDirectory() as folder:
        house = House(Path(folder))
        _furnish(house, [made[number % len(made)] for number in range(count)])
        _, secret = house.key()
        ports = free_port(), free_port()
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        paths = {"PYTHONPATH": os.pathsep.join([str(HERE), str(ROOT / "tests"), *sys.path]), "TAILORBIRD_ENGINE_MEMORY_MB": str(memory_mb)}
        engine = [sys.executable, str(HERE / "own_engine.py"), folder, str(ports[1])]
        gateway = [sys.executable, str(HERE / "own_gateway.py"), folder, *map(str, ports)]
        with process(engine, f"{urls[1]}/healthz", ENGINE_SECRET, **paths), process(gateway, f"{urls[0]}/readyz", secret, **paths):
            yield Own(urls[0], secret, urls[1], house)
        house.ledger.close()


def asks_own(own: Own) -> Ask:
    async def ask(client: httpx.AsyncClient, text: str, adapter: int | None) -> int:
        body = {"model": f"acme/{name_of(adapter)}", "messages": [{"role": "user", "content": text}], "max_tokens": TOKENS}
        response = await client.post(f"{own.url}/v1/chat/completions", json=body, headers=own.head)
        return int(response.raise_for_status().json()["usage"]["completion_tokens"])

    return ask


def name_of(adapter: int | None) -> str:
    return "base" if adapter is None else f"a{adapter}"


def _furnish(house: House, folders: list[Path]) -> None:
    """Releases, names, and the file in which the engine process finds what to load."""
    with house.ledger.system() as system:
        system.tenants.replace(system.tenants.get("acme").model_copy(update={"limits": LIMITS}))
    started, found = time.monotonic(), {}
    writes, sorts = PromptSpec(instruction=SYSTEM), PromptSpec(instruction=SORTING, labels=tuple(labels()))
    found[add_release(house, "base", 0, writes)] = None
    found[add_release(house, "sorting", 1, sorts)] = None
    for number, folder in enumerate(folders):
        # A thousand names, a thousand copies in memory: folders beyond the first are links.
        found[add_release(house, name_of(number), number + 2, writes)] = str(_own_folder(number, folder))
    (house.folder / "servables.json").write_text(json.dumps(found))
    say(f"{len(found)} names with adapters of rank {RANK} in {time.monotonic() - started:.1f} s")


def add_release(house: House, name: str, number: int, prompt: PromptSpec) -> Digest:
    """A release in the record, and the name that points to it."""
    task = TaskKind.CLASSIFY if prompt.labels else TaskKind.GENERATE
    made = make_release("acme", number, task, house.clock.now())
    content = made.content.model_copy(update={"prompt": prompt})
    release = digest_of(content)
    dossier = made.dossier.model_copy(update={"release": release})
    with house.ledger.work("acme") as work:
        work.releases.add(made.model_copy(update={"content": content, "digest": release, "dossier": dossier}))
    house.point(name, release)
    return release


def _own_folder(number: int, first: Path) -> Path:
    folder = WORK / "adapters" / str(number)
    folder.mkdir(exist_ok=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).exists():
            (folder / name).hardlink_to(first / name)
    return folder


def base_folder() -> str:
    """The base model as the engine process loads it."""
    return str(base_model())
