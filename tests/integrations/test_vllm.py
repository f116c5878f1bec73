"""The driver of vLLM against a real one on the processor: answers, adapters that come and go, none crossed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import Conflict, InvalidInput, NotFound
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, PromptSpec, Sampling
from tailorbird.foundations.canonical import digest_bytes
from tailorbird.integrations.vllm import open_driver
from tailorbird.ports.engine import LoadRequest

ROOT = Path(__file__).resolve().parents[2]
KEY = "between-gateway-and-engine"
ASK = (Message(role="system", content="Name the intent of the message in a word."), Message(role="user", content="my card is lost"))


@pytest.fixture(scope="module")
def server(base_model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A vLLM server in an environment of its own, which is made where it is not there."""
    made = subprocess.run([sys.executable, str(ROOT / "scripts" / "vllm_environment.py")], check=True, stdout=subprocess.PIPE, text=True)
    environment = Path(made.stdout.splitlines()[-1])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = [str(environment / "bin" / "python"), "-m", "vllm.entrypoints.openai.api_server", "--model", str(base_model_folder)]
    command = [*server, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--served-model-name", "base", "--dtype", "float32", "--max-model-len", "512", "--enforce-eager", "--api-key", KEY]
    command += ["--enable-lora", "--max-loras", "2", "--max-cpu-loras", "2", "--max-lora-rank", "16"]
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "VLLM_NO_USAGE_STATS": "1"}
    settings |= {"LD_PRELOAD": str(environment / "lib" / "libiomp5.so"), "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
    log = tmp_path_factory.mktemp("vllm") / "log"
    with log.open("wb") as stream:
        running = subprocess.Popen(command, stdout=stream, stderr=stream, env=os.environ | settings, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url, running, log)
        yield url
    finally:
        os.killpg(running.pid, signal.SIGTERM)
        try:
            running.wait(20)
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


def servable(base: Path, name: str, adapter: Path | None = None, **changes: Any) -> Servable:
    return Servable(
        id=digest_bytes(name.encode()),
        tenant="acme",
        task=TaskKind.GENERATE,
        base=str(base),
        adapter=str(adapter) if adapter else None,
        weights=None,
        prompt=PromptSpec(instruction=""),
        **changes,
    )


@pytest.mark.vllm
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_releases_on_a_real_vllm(server: str, base_model_folder: Path, tmp_path: Path) -> None:
    from oracle import write_adapter

    from tailorbird.inference import open_engine

    write_adapter(base_model_folder, tmp_path / "a", seed=1, r=8)
    write_adapter(base_model_folder, tmp_path / "b", seed=2, r=8)
    base, first, second = servable(base_model_folder, "base"), *(_adapted(base_model_folder, tmp_path, name) for name in "ab")
    served = {each.id: each for each in (base, first, second)}
    ours = open_engine("fp32")
    ours.load(base)

    async def story() -> None:
        driver = open_driver(server, KEY, "base", lambda request: served[request.release])
        try:
            assert await driver.ready()
            with pytest.raises(NotFound):
                await anext(driver.stream(digest_bytes(b"a"), ASK, Sampling(max_tokens=4)))
            (own,) = ours.generate(base.id, [ASK], Sampling(max_tokens=8))
            await driver.load(LoadRequest(tenant="acme", release=base.id, purpose="production"))
            text, last = await _answer(driver, base.id)
            assert (text, last.prompt_tokens) == (own.text, own.prompt_tokens)
            with pytest.raises(Conflict):
                await driver.load(LoadRequest(tenant="acme", release=first.id, purpose="production"))
            await driver.unload(base.id)
            adapted = (first.id, second.id)
            for each in adapted:
                await driver.load(LoadRequest(tenant="acme", release=each, purpose="production"))
            assert await driver.loaded() == adapted
            expected = {each: (await _answer(driver, each))[0] for each in adapted}
            assert len({own.text, *expected.values()}) == 3
            found = await asyncio.gather(*(_answer(driver, each) for each in adapted * 4))
            assert [text for text, _ in found] == [expected[each] for each in adapted * 4]
            await driver.unload(first.id)
            with pytest.raises(NotFound):
                await _answer(driver, first.id)
            assert (await _answer(driver, second.id))[0] == expected[second.id]
        finally:
            await driver.close()

    asyncio.run(story())


def _adapted(base: Path, folder: Path, name: str) -> Servable:
    return servable(base, name, folder / name)


async def _answer(driver: Any, release: str) -> tuple[str, Any]:
    chunks = [chunk async for chunk in driver.stream(release, ASK, Sampling(max_tokens=8))]
    return "".join(chunk.text for chunk in chunks), chunks[-1]


def test_a_vllm_that_others_can_reach_is_refused() -> None:
    for url in ("http://10.0.0.1:8000", "http://example.org:8000"):
        with pytest.raises(InvalidInput):
            open_driver(url, "", "base", lambda request: servable(Path("base"), request.release))


@pytest.mark.parametrize(("changes", "code"), [({"weights": "w"}, "driver_unable"), ({"task": TaskKind.CLASSIFY}, "scoring_unsupported")])
def test_what_it_cannot_serve_is_refused_before_anything_is_sent(changes: dict[str, Any], code: str) -> None:
    whole = servable(Path("base"), "whole").model_copy(update=changes)

    async def story() -> None:
        driver = open_driver("http://127.0.0.1:9", "", "base", lambda request: whole)
        with pytest.raises((Conflict, InvalidInput)) as refused:
            await driver.load(LoadRequest(tenant="acme", release=whole.id, purpose="production"))
        assert refused.value.error_code == code
        await driver.close()

    asyncio.run(story())
