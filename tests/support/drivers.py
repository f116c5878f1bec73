"""Engines of every kind behind their drivers, each with a few generate releases that answer differently where they can."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from support.doubles import MemoryEngine
from support.processes import SECRET, in_thread
from support.serving import writing
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.deployment import Servable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, PromptSpec, Sampling
from tailorbird.domain.value import Digest
from tailorbird.integrations import loopback, vllm
from tailorbird.ports.engine import EngineDriver, LoadRequest, LocalEngine
from tailorbird.processes.engine_process import engine_app
from tailorbird.serving.engine_replicas import EngineReplicas

ROOT = Path(__file__).resolve().parents[2]
KEY = "between-gateway-and-engine"
SHORT = Sampling(max_tokens=8)
#: Eight that stay under load, and one that comes and goes.
NAMES = "abcdefghi"


@dataclass(frozen=True)
class Served:
    """An engine that runs. ``open`` makes a driver of it; ``releases`` can be loaded; ``distinct``: they answer differently; ``scores``:
    labels can be scored; ``remembers``: beginnings of prompts are remembered, and how much of one was is told."""

    open: Callable[[], EngineDriver]
    releases: tuple[Digest, ...]
    distinct: bool
    scores: bool
    remembers: bool = False

    def run(self, story: Callable[[EngineDriver], Awaitable[None]]) -> None:
        """Plays ``story`` with a driver that holds nothing, and leaves nothing loaded."""

        async def whole() -> None:
            driver = self.open()
            try:
                await story(driver)
            finally:
                for release in (await driver.status()).loaded:
                    await driver.unload(release)
                await driver.close()

        asyncio.run(whole())


def request(release: Digest) -> LoadRequest:
    return LoadRequest(tenant="acme", release=release, purpose="production")


def asked(text: str) -> tuple[Message, ...]:
    return (Message(role="system", content="Name the intent of the message in a word."), Message(role="user", content=text))


async def answer(driver: EngineDriver, release: Digest, text: str, sampling: Sampling = SHORT) -> tuple[str, Any]:
    """The text of an answer, and its last chunk."""
    chunks = [chunk async for chunk in await driver.ask(writing(release, asked(text), sampling))]
    assert all(chunk.finish_reason is None for chunk in chunks[:-1])
    return "".join(chunk.text for chunk in chunks), chunks[-1]


def servable(name: str, base: Path = Path("base"), adapter: Path | None = None, **changes: Any) -> Servable:
    plain: dict[str, Any] = {"id": digest_bytes(name.encode()), "tenant": "acme", "task": TaskKind.GENERATE, "base": str(base)}
    plain |= {"adapter": str(adapter) if adapter else None, "weights": None, "prompt": PromptSpec(instruction="")}
    return Servable(**(plain | changes))


@contextmanager
def twin_served() -> Iterator[Served]:
    with _own(MemoryEngine(), [servable(name) for name in NAMES]) as served:
        yield served


@contextmanager
def replicas_served() -> Iterator[Served]:
    """Two twins as replicas of one engine."""
    servables = [servable(name) for name in NAMES]
    with ExitStack() as stack:
        apps = [partial(engine_app, MemoryEngine(), _admitting(servables), SECRET) for _ in range(2)]
        urls = [stack.enter_context(in_thread(app))[0] for app in apps]
        yield Served(lambda: EngineReplicas({url: loopback.open_driver(url, SECRET) for url in urls}), _ids(servables), True, True)


@contextmanager
def torch_served(base: Path, folder: Path) -> Iterator[Served]:
    from tailorbird.inference import open_engine

    with _own(open_engine("fp32"), adapted(base, folder), remembers=True) as served:
        yield served


@contextmanager
def vllm_served(base: Path, folder: Path) -> Iterator[Served]:
    servables = adapted(base, folder)
    with running_vllm(base, folder / "log") as url:
        yield Served(lambda: vllm.open_driver(url, KEY, "base", _admitting(servables)), _ids(servables), True, False, True)


def adapted(base: Path, folder: Path) -> list[Servable]:
    """Random adapters on ``base``."""
    from support.oracle import write_adapter

    for seed, name in enumerate(NAMES, start=1):
        write_adapter(base, folder / name, seed=seed, r=8)
    return [servable(name, base, folder / name) for name in NAMES]


@contextmanager
def _own(engine: LocalEngine, servables: Sequence[Servable], *, remembers: bool = False) -> Iterator[Served]:
    with ExitStack() as stack:
        url, _ = stack.enter_context(in_thread(lambda: engine_app(engine, _admitting(servables), SECRET)))
        yield Served(lambda: loopback.open_driver(url, SECRET), _ids(servables), True, True, remembers)


def _admitting(servables: Sequence[Servable]) -> Callable[[LoadRequest], Servable]:
    known = {each.id: each for each in servables}
    return lambda wanted: known[wanted.release]


def _ids(servables: Sequence[Servable]) -> tuple[Digest, ...]:
    return tuple(each.id for each in servables)


@contextmanager
def vllm_replicas_served(base: Path, folder: Path) -> Iterator[Served]:
    """Two real vLLMs as replicas of one engine."""
    servables = adapted(base, folder)
    with ExitStack() as stack:
        urls = [stack.enter_context(running_vllm(base, folder / f"log{number}")) for number in range(2)]
        admit = _admitting(servables)
        yield Served(
            lambda: EngineReplicas({url: vllm.open_driver(url, KEY, "base", admit) for url in urls}), _ids(servables), True, False, True
        )


@contextmanager
def running_vllm(base: Path, log: Path) -> Iterator[str]:
    """A vLLM server on a free port, once it answers; ended at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with vllm_process(base, log, port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def vllm_process(base: Path, log: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A vLLM server, which leads a group of processes, in an environment of its own, which is made where it is not there."""
    made = subprocess.run([sys.executable, str(ROOT / "scripts" / "vllm_environment.py")], check=True, stdout=subprocess.PIPE, text=True)
    environment = Path(made.stdout.splitlines()[-1])
    server = [str(environment / "bin" / "python"), "-m", "vllm.entrypoints.openai.api_server", "--model", str(base)]
    command = [*server, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--served-model-name", "base", "--dtype", "float32", "--max-model-len", "512", "--enforce-eager", "--api-key", KEY]
    command += ["--enable-lora", "--max-loras", str(len(NAMES)), "--max-cpu-loras", str(len(NAMES)), "--max-lora-rank", "16"]
    command += ["--enable-prefix-caching", "--enable-prompt-tokens-details"]
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "VLLM_NO_USAGE_STATS": "1"}
    settings |= {"LD_PRELOAD": str(environment / "lib" / "libiomp5.so"), "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    with log.open("wb") as stream:
        running = subprocess.Popen(command, stdout=stream, stderr=stream, env=os.environ | settings, start_new_session=True)
    try:
        _wait(f"http://127.0.0.1:{port}", running, log)
        yield running
    finally:
        end_group(running)


def end_group(running: subprocess.Popen[bytes], seconds: float = 20) -> None:
    """Asks the processes of the group to end, and ends those that have not after so many seconds; at once with 0."""
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGTERM if seconds else signal.SIGKILL)
    try:
        running.wait(seconds or 60)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)


def _wait(url: str, running: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 400
    while time.monotonic() < until:
        assert running.poll() is None, log.read_text()[-3000:]
        try:
            if httpx.get(f"{url}/health", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise AssertionError(log.read_text()[-3000:])
