"""The driver of vLLM against a real one on the processor: answers, adapters that come and go, labels, isolation."""

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
LABELS = ("refund", "lost card", "top up by bank transfer")
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
        prompt=PromptSpec(instruction="", labels=LABELS),
        **changes,
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_releases_on_a_real_vllm(server: str, base_model_folder: Path, tmp_path: Path) -> None:
    from oracle import write_adapter

    from tailorbird.inference import open_engine

    write_adapter(base_model_folder, tmp_path / "a", seed=1, r=8)
    write_adapter(base_model_folder, tmp_path / "b", seed=2, r=8)
    served = {each.id: each for each in (servable(base_model_folder, "base"), *(_adapted(base_model_folder, tmp_path, n) for n in "ab"))}
    ours = open_engine("fp32")
    for each in served.values():
        ours.load(each)

    async def story() -> None:
        driver = open_driver(server, KEY, "base", lambda request: served[request.release])
        try:
            assert await driver.ready()
            with pytest.raises(NotFound):
                await anext(driver.stream(digest_bytes(b"a"), ASK, Sampling(max_tokens=4)))
            for each in served:
                await driver.load(LoadRequest(tenant="acme", release=each, purpose="production"))
            assert set(await driver.loaded()) == set(served)
            expected = {each: ours.generate(each, [ASK], Sampling(max_tokens=8))[0] for each in served}
            found = await asyncio.gather(*(_answer(driver, each) for each in (*served, *served)))
            assert [text for text, _ in found] == [expected[each].text for each in (*served, *served)]
            assert len({text for text, _ in found}) == 3
            assert found[0][1].prompt_tokens == expected[next(iter(served))].prompt_tokens
            for each in served:
                scores = await driver.score(each, ASK, LABELS)
                (own,) = ours.score(each, [ASK], LABELS)
                assert scores.log_probabilities == pytest.approx(own.log_probabilities, abs=1e-2)
            gone = digest_bytes(b"a")
            await driver.unload(gone)
            with pytest.raises(NotFound):
                await driver.score(gone, ASK, LABELS)
            assert (await _answer(driver, digest_bytes(b"b")))[0] == expected[digest_bytes(b"b")].text
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


def test_full_weights_are_refused_before_anything_is_sent() -> None:
    whole = servable(Path("base"), "whole").model_copy(update={"weights": "weights"})

    async def story() -> None:
        driver = open_driver("http://127.0.0.1:9", "", "base", lambda request: whole)
        with pytest.raises(Conflict) as refused:
            await driver.load(LoadRequest(tenant="acme", release=whole.id, purpose="production"))
        assert refused.value.error_code == "driver_unable"
        await driver.close()

    asyncio.run(story())
