"""Ours, as a user has it: a gateway process and an engine process, asked over HTTP with an API key.

In: folders of adapters. Out: a gateway in front of an engine, with a name for the base, one for each adapter and one for a classifier of 77
labels. What differs from production: releases are plain folders, so nothing is verified when they are loaded; the effect of those that are
named later is shown, as it would be.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from engines import RANK, ROOT, SYSTEM, TOKENS, Ask, adapters, adapters_folder, base_model, free_port, labels, process
from loading import LIMITS
from run import say

from support.serving import House, make_release
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.deployment import Alias, AliasTarget, Servable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import PromptSpec
from tailorbird.domain.release import Release
from tailorbird.domain.value import Digest

HERE = Path(__file__).resolve().parent
ENGINE_SECRET = "benchmark"
SORTING = "Classify the customer message into one intent."


@dataclass(frozen=True)
class Own:
    """A gateway that answers; the engine behind it, or the first of several."""

    url: str
    secret: str
    engine: Path
    house: House
    releases: dict[str, Digest]

    def point(self, adapter: int) -> None:
        """Gives an adapter that has none yet its name."""
        self.house.point(name_of(adapter), self.releases[name_of(adapter)])

    @property
    def head(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.secret}"}

    def engine_state(self) -> dict[str, Any]:
        head = {"authorization": f"Bearer {ENGINE_SECRET}"}
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(self.engine))) as client:
            return dict(client.get("http://engine/status", headers=head, timeout=60).raise_for_status().json())


@contextmanager
def own(count: int, memory_mb: int = 4096, later: int = 0, precision: str = "auto") -> Iterator[Own]:
    """Ours with ``count`` adapters, once every name answers; ``later`` more have a release, and no name yet."""
    made = adapters(min(count + later, 32))
    with TemporaryDirectory() as folder, ExitStack() as stack:
        house = House(Path(folder))
        folders = [made[number % len(made)] for number in range(count + later)]
        releases = _furnish(house, folders, count)
        proofs = {releases[name_of(number)]: _proof(folders[number]) for number in range(count, count + later)}
        (house.folder / "proofs.json").write_text(json.dumps(proofs))
        _, secret = house.key()
        port, socket = free_port(), Path(folder) / "engine.sock"
        url = f"http://127.0.0.1:{port}"
        paths = {"PYTHONPATH": os.pathsep.join([str(HERE), str(ROOT / "tests"), *sys.path])}
        engine = [sys.executable, str(HERE / "own_engine.py"), folder, str(socket), str(memory_mb), precision]
        stack.enter_context(process(engine, f"unix:{socket}", ENGINE_SECRET, **paths))
        gateway = [sys.executable, str(HERE / "own_gateway.py"), folder, str(port), str(socket)]
        with process(gateway, f"{url}/readyz", secret, **paths):
            yield Own(url, secret, socket, house, releases)
        house.ledger.close()


def asks_own(own: Own) -> Ask:
    async def ask(client: httpx.AsyncClient, text: str, adapter: int | None) -> int:
        body = {"model": f"acme/{name_of(adapter)}", "messages": [{"role": "user", "content": text}], "max_tokens": TOKENS}
        response = await client.post(f"{own.url}/v1/chat/completions", json=body, headers=own.head)
        return int(response.raise_for_status().json()["usage"]["completion_tokens"])

    return ask


def name_of(adapter: int | None) -> str:
    return "base" if adapter is None else f"a{adapter}"


def _furnish(house: House, folders: list[Path], named: int) -> dict[str, Digest]:
    """Releases, names for the first ``named`` adapters, and the file in which the engine process finds what to load."""
    with house.ledger.system() as system:
        system.tenants.replace(system.tenants.get("acme").model_copy(update={"limits": LIMITS}))
    writes, sorts = PromptSpec(instruction=SYSTEM), PromptSpec(instruction=SORTING, labels=tuple(labels()))
    made = {"base": _release(house, 0, writes), "sorting": _release(house, 1, sorts)}
    made |= {name_of(number): _release(house, number + 2, writes) for number in range(len(folders))}
    answering = ["base", "sorting", *(name_of(number) for number in range(named))]
    with house.ledger.work("acme") as work:
        for release in made.values():
            work.releases.add(release)
        for name in answering:
            targets = (AliasTarget(release=made[name].digest),)
            work.aliases.put(Alias(tenant="acme", name=name, targets=targets, moved_at=house.clock.now(), moved_by="olga"))
    found: dict[str, str | None] = {made["base"].digest: None, made["sorting"].digest: None}
    # A thousand names, a thousand copies in memory: folders beyond the first are links.
    found |= {made[name_of(number)].digest: str(_own_folder(number, folder)) for number, folder in enumerate(folders)}
    (house.folder / "servables.json").write_text(json.dumps(found))
    say(f"{len(answering)} names; adapters of rank {RANK}")
    return {name: release.digest for name, release in made.items()}


def _release(house: House, number: int, prompt: PromptSpec) -> Release:
    task = TaskKind.CLASSIFY if prompt.labels else TaskKind.GENERATE
    made = make_release("acme", number, task, house.clock.now())
    content = made.content.model_copy(update={"prompt": prompt})
    dossier = made.dossier.model_copy(update={"release": digest_of(content)})
    return made.model_copy(update={"content": content, "digest": dossier.release, "dossier": dossier})


def _proof(adapter: Path) -> dict[str, Any]:
    """What the adapter changes, as it would stand beside its release; measured once."""
    kept = adapter / "proof.json"
    if not kept.is_file():
        from tailorbird.inference import open_engine
        from tailorbird.usecases.runs.sealed_test import effect_proof

        named = {"id": digest_of(str(adapter)), "tenant": "acme", "task": TaskKind.GENERATE, "base": base_folder(), "weights": None}
        engine = open_engine("auto")
        with TemporaryDirectory() as place:
            proof = effect_proof(engine, Servable(**named, adapter=str(adapter), prompt=PromptSpec(instruction=SYSTEM)), Path(place))
        engine.close()
        kept.write_text(proof.model_dump_json())
    return dict(json.loads(kept.read_text()))


def _own_folder(number: int, first: Path) -> Path:
    folder = adapters_folder() / str(number)
    folder.mkdir(exist_ok=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / name).exists():
            (folder / name).hardlink_to(first / name)
    return folder


def base_folder() -> str:
    """The base model as the engine process loads it."""
    return str(base_model())
