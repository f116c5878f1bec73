"""Two real engine processes behind one gateway: one is killed under load, or told to end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from support.processes import CHAT, SECRET, in_thread, wait_ready, wait_until
from support.serving import House
from tailorbird.integrations.loopback import open_driver
from tailorbird.processes.engine_process import SECRET_VARIABLE
from tailorbird.processes.gateway import gateway_app
from tailorbird.system.files import private_folder

NAMES = [f"name-{number}" for number in range(4)]


@contextmanager
def engine(workspace: Path, place: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), SECRET_VARIABLE: SECRET}
    place.unlink(missing_ok=True)
    command = [sys.executable, str(Path(__file__).parents[1] / "support" / "gateway_process.py"), "engine", str(workspace), str(place)]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait(60)


@dataclass
class Pair:
    """A gateway over two engine processes."""

    house: House
    folder: Path
    url: str = ""

    def __post_init__(self) -> None:
        self.places = [private_folder(self.folder / "sockets") / f"{number}.sock" for number in range(2)]
        self.engines: list[subprocess.Popen[bytes]] = []

    @contextmanager
    def running(self) -> Iterator[ExitStack]:
        drivers = [open_driver(f"unix:{place}", SECRET) for place in self.places]

        async def close() -> None:
            for driver in drivers:
                await driver.close()

        with ExitStack() as stack:
            self.engines = [stack.enter_context(engine(self.folder, place)) for place in self.places]
            wait_until(lambda: all(place.exists() for place in self.places), 60)
            self.url, _ = stack.enter_context(
                in_thread(lambda: gateway_app(self.house.deps, drivers, addresses=("one", "two")), last=close)
            )
            wait_ready(self.url)
            yield stack

    def client(self, tenant: str = "acme") -> httpx.Client:
        _, secret = self.house.key(tenant)
        return httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {secret}"}, timeout=120)


def test_a_replica_that_is_killed_fails_no_request_and_comes_back(house: House, tmp_path: Path) -> None:
    releases = {name: house.release(number) for number, name in enumerate(NAMES, 1)}
    for name, release in releases.items():
        house.point(name, release)
    pair = Pair(house, tmp_path)
    with pair.running() as stack:
        client = stack.enter_context(pair.client())
        pool = stack.enter_context(ThreadPoolExecutor(16))

        def ask(number: int) -> tuple[int, str]:
            time.sleep(number * 0.005)
            body = {"model": f"acme/{NAMES[number % 4]}", "messages": [{"role": "user", "content": f"where is parcel {number}"}]}
            return client.post(CHAT, json=body).status_code, NAMES[number % 4]

        answers = [pool.submit(ask, number) for number in range(200)]
        wait_until(lambda: sum(answer.done() for answer in answers) > 20, 60)
        pair.engines[0].kill()
        assert {answer.result()[0] for answer in answers} == {200}
        assert pair.engines[1].poll() is None
        stack.enter_context(engine(tmp_path, pair.places[0]))
        wait_until(pair.places[0].exists, 60)
        assert {ask(number)[0] for number in range(8)} == {200}
    rows = house.rows()
    assert len(rows) == 208
    assert {(row.alias.removeprefix("acme/"), row.release) for row in rows} == set(releases.items())
