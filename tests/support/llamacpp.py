"""A real llama.cpp behind HTTP, and what it makes of token ids."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import torch

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Continuation:
    """Greedy tokens behind a prompt, one that ends the answer included, and at each the ids and log-probabilities of the likeliest: none,
    where bytes made no character, for then the server leaves some out."""

    tokens: tuple[int, ...]
    likeliest: tuple[dict[int, float], ...]


@contextmanager
def running_llamacpp(model: Path, *adapters: Path, alias: str = "base") -> Iterator[httpx.Client]:
    """llama.cpp's server with ``model``, called ``alias``, and ``adapters``, in an environment that is made where it is not there."""
    made = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "llamacpp_environment.py")], check=True, stdout=subprocess.PIPE, text=True
    )
    python = Path(made.stdout.splitlines()[-1]) / "bin" / "python"
    command = [str(python), str(ROOT / "tests" / "support" / "llamacpp_server.py"), str(model), alias, *map(str, adapters)]
    running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert running.stdout is not None
        url = running.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), f"llama.cpp does not load {model.name}"
        with httpx.Client(base_url=url, timeout=120) as client:
            yield client
    finally:
        running.kill()
        running.wait()
        for stream in (running.stdin, running.stdout):
            assert stream is not None
            stream.close()


def tokens_of(server: httpx.Client, text: str, *, begun: bool = True) -> list[int]:
    """Ids of a text, special tokens included; not ``begun``: behind the one that each begins with where the file says so, as the server
    computes what it rendered."""
    found: list[int] = asked(server, "/tokenize", content=text, add_special=not begun, parse_special=True)["tokens"]
    return found


def continued(server: httpx.Client, prompt: Sequence[int], length: int, shown: int) -> Continuation:
    """``length`` greedy tokens behind ``prompt``, with the ``shown`` likeliest at each."""
    settings: dict[str, Any] = {"n_predict": length, "temperature": 0.0, "n_probs": shown, "cache_prompt": False}
    found = asked(server, "/completion", prompt=list(prompt), **settings, return_tokens=True)
    likeliest = [{each["id"]: each["logprob"] for each in place["top_logprobs"]} for place in found.get("completion_probabilities", ())]
    whole = len(found["tokens"]) == len(likeliest)
    return Continuation(tuple(found["tokens"]), tuple(likeliest) if whole else ())


def divergence(expected_V: torch.Tensor, found: dict[int, float]) -> float:
    """KL divergence, in nats, of log-probabilities (V) from those of the likeliest tokens; all others together are one more outcome."""
    ids = torch.tensor(list(found))
    p, q = expected_V[ids].double(), torch.tensor(list(found.values()), dtype=torch.float64)
    rest_p, rest_q = (torch.log1p(-each.exp().sum().clamp(max=1 - 1e-9)) for each in (p, q))
    return float((p.exp() * (p - q)).sum() + rest_p.exp() * (rest_p - rest_q))


def asked(server: httpx.Client, path: str, **body: Any) -> Any:
    """What the server answers. Fails on an error."""
    response = server.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()
