"""Servers on real sockets: in threads of this process, or as processes of their own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from support.doubles import MemoryEngine
from support.serving import House
from tailorbird.integrations.loopback import open_driver
from tailorbird.ports.engine import LocalEngine
from tailorbird.processes.engine_process import engine_app
from tailorbird.processes.gateway import gateway_app
from tailorbird.processes.http_servers import Server, Tls, free_port, listen
from tailorbird.usecases import Dependencies

SECRET = "shared-with-the-gateway"
CHAT = "/v1/chat/completions"
ASK = {"model": "acme/routing", "messages": [{"role": "user", "content": "I lost my card"}]}


@contextmanager
def in_thread(
    make: Callable[[], FastAPI], tls: Tls | None = None, proxies: tuple[str, ...] = (), last: Callable[[], Awaitable[None]] | None = None
) -> Iterator[tuple[str, Server]]:
    """A server in a thread with its own event loop; ended gracefully. ``last`` is awaited in that loop, when nothing else is at work."""
    listener = listen("127.0.0.1", 0)
    server = Server(make(), tls, proxies)
    thread = threading.Thread(target=lambda: asyncio.run(served(server, listener, last)))
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{listener.getsockname()[1]}", server
    finally:
        server.end()
        thread.join(60)
        listener.close()
        assert not thread.is_alive()


async def served(server: Server, listener: socket.socket, last: Callable[[], Awaitable[None]] | None = None) -> None:
    """Serves until the end; what is still going then ends before ``last`` and the loop do, and connections have a moment to close."""
    await server.serve(sockets=[listener])
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    if last is not None:
        await last()
    await asyncio.sleep(0.02)


@contextmanager
def engine_server(house: House, engine: LocalEngine | None = None) -> Iterator[str]:
    with in_thread(lambda: engine_app(engine or MemoryEngine(), house.admit, SECRET)) as (url, _):
        yield url


@dataclass
class Live:
    """A gateway in a thread, its engine in another."""

    url: str
    server: Server
    secret: str

    def readiness(self) -> tuple[int, Any]:
        """What /readyz says."""
        response = httpx.get(f"{self.url}/readyz", timeout=20)
        return response.status_code, response.json()

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.secret}"}


@contextmanager
def live(house: House, engine: LocalEngine | None = None, deps: Dependencies | None = None) -> Iterator[Live]:
    """A gateway over ``deps``, by default those of the house."""
    _, secret = house.key()
    with engine_server(house, engine) as engine_url:
        driver = open_driver(engine_url, SECRET)
        # Closed when nobody asks it any more: a connection that is being made while its pool is closed stays open.
        with in_thread(lambda: gateway_app(deps or house.deps, [driver]), last=driver.close) as (url, server):
            wait_ready(url)
            yield Live(url, server, secret)


def wait_ready(url: str, process: subprocess.Popen[bytes] | None = None, seconds: float = 120) -> float:
    """Waits for /readyz and returns the seconds it took."""
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        assert process is None or process.poll() is None, "the gateway ended"
        try:
            if httpx.get(f"{url}/readyz", timeout=2).status_code == 200:
                return time.monotonic() - started
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError("the gateway was not ready")


class Process:
    """A gateway process with an engine process of its own (see ``gateway_process.py``)."""

    def __init__(self, workspace: Path, port: int, *arguments: str, log_format: str = "text") -> None:
        self.url = f"http://127.0.0.1:{port}"
        tests = Path(__file__).resolve().parent.parent
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(tests)]), "TEST_LOG_FORMAT": log_format}
        self.errors = workspace / "gateway.log"
        with self.errors.open("wb") as log:
            command = [sys.executable, str(Path(__file__).with_name("gateway_process.py")), str(workspace), str(port), *arguments]
            self.process = subprocess.Popen(command, stderr=log, stdout=log, env=environment)

    def engine_pids(self) -> list[int]:
        """Pids that the gateway said it started, in order."""
        words = self.errors.read_text().replace(")", " ").split()
        return [int(following) for word, following in pairwise(words) if word == "(pid"]

    def pid_of(self, process: str) -> int:
        """The pid of an engine process, by its name: several are started in any order."""
        found = re.search(rf"starting {process} \(pid (\d+)\)", self.errors.read_text())
        assert found, self.errors.read_text()
        return int(found[1])

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Waits for the end, however busy the machine is."""
        return self.process.wait(120)


@contextmanager
def gateway_process(workspace: Path, *arguments: str, port: int | None = None, log_format: str = "text") -> Iterator[Process]:
    running = Process(workspace, port or free_port(), *arguments, log_format=log_format)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.stop(signal.SIGKILL)


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> float:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "the condition did not come true"
        time.sleep(0.02)
    return time.monotonic() - started
