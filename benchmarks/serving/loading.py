"""What the gateway families share: a furnished record, a gateway process pinned to one core, a client that does little itself."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from support.serving import House
from tailorbird.domain.identity import QuotaLimits
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.value import Digest
from tailorbird.processes.http_servers import free_port

HERE = Path(__file__).resolve().parent
CHAT = "/v1/chat/completions"
#: Far away, so that they are checked and never reached.
LIMITS = QuotaLimits(requests_per_minute=10**9, input_tokens_per_minute=10**9, output_tokens_per_month=10**12, money_per_month=1e9)


@dataclass
class Lone:
    """A gateway that answers, and what it was furnished with."""

    house: House
    port: int
    secret: str
    classifiers: tuple[Digest, Digest]

    @property
    def head(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.secret}", "content-type": "application/json"}

    def connection(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=60)


@contextmanager
def lone_gateway(core: int = 0, word_seconds: float = 0.1) -> Iterator[Lone]:
    """A gateway process on ``core``; this process goes to the other one."""
    before = os.sched_getaffinity(0)
    with TemporaryDirectory() as folder:
        house = House(Path(folder))
        releases = (house.release(1), house.release(3))
        house.point("routing", releases[0])
        house.point("writer", house.release(2, task=TaskKind.GENERATE))
        with house.ledger.system() as system:
            system.tenants.replace(system.tenants.get("acme").model_copy(update={"limits": LIMITS}))
        _, secret = house.key()
        port = free_port()
        paths = os.pathsep.join([str(HERE), str(HERE.parents[1] / "tests"), *sys.path])
        environment = os.environ | {"PYTHONPATH": paths, "WORD_SECONDS": str(word_seconds)}
        process = subprocess.Popen([sys.executable, str(HERE / "lone_gateway.py"), folder, str(port), str(core)], env=environment)
        others = before - {core} or before
        os.sched_setaffinity(0, others)
        try:
            _wait_ready(port, process)
            yield Lone(house, port, secret, releases)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            house.ledger.close()
            os.sched_setaffinity(0, before)


def _wait_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    started = time.monotonic()
    while time.monotonic() - started < 60:
        if process.poll() is not None:
            raise SystemExit("the gateway ended")
        try:
            asked = HTTPConnection("127.0.0.1", port, timeout=5)
            asked.request("GET", "/readyz")
            if asked.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise SystemExit("the gateway was not ready")


def body(model: str, content: str, **more: Any) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": content}]} | more).encode()


async def stream(lone: Lone, content: str, tokens: int, model: str = "acme/writer") -> AsyncIterator[dict[str, Any]]:
    """The events of one stream over a connection of its own. Raises RuntimeError for another status than 200."""
    reader, writer = await asyncio.open_connection("127.0.0.1", lone.port)
    sent = body(model, content, stream=True, max_tokens=tokens)
    head = f"POST {CHAT} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\ncontent-length: {len(sent)}\r\n"
    writer.write((head + "".join(f"{k}: {v}\r\n" for k, v in lone.head.items()) + "\r\n").encode() + sent)
    try:
        status = int((await reader.readline()).split()[1])
        while (await reader.readline()).strip():
            pass
        if status != 200:
            raise RuntimeError(f"status {status}")
        async for line in reader:
            if line.startswith(b"data: {"):
                yield json.loads(line[6:])
            elif line.startswith(b"data: [DONE]"):
                return
        raise RuntimeError("the stream ended without [DONE]")
    finally:
        writer.close()
