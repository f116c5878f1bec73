"""Two real engine processes behind one gateway: one is killed under load, and comes back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from support.processes import CHAT, SECRET, in_thread, wait_ready, wait_until
from support.serving import House
from tailorbird.integrations.loopback import open_driver
from tailorbird.processes import SECRET_VARIABLE, gateway_app
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


def test_a_replica_that_is_killed_fails_no_request_and_comes_back(house: House, tmp_path: Path) -> None:
    releases = {name: house.release(number) for number, name in enumerate(NAMES, 1)}
    for name, release in releases.items():
        house.point(name, release)
    _, secret = house.key()
    places = [private_folder(tmp_path / "sockets") / f"{number}.sock" for number in range(2)]
    drivers = [open_driver(f"unix:{place}", SECRET) for place in places]

    async def close() -> None:
        for driver in drivers:
            await driver.close()

    with ExitStack() as stack:
        engines = [stack.enter_context(engine(tmp_path, place)) for place in places]
        wait_until(lambda: all(place.exists() for place in places), 60)
        url, _ = stack.enter_context(in_thread(lambda: gateway_app(house.deps, drivers), last=close))
        client = stack.enter_context(httpx.Client(base_url=url, headers={"authorization": f"Bearer {secret}"}, timeout=60))
        pool = stack.enter_context(ThreadPoolExecutor(16))
        wait_ready(url)

        def ask(number: int) -> tuple[int, str]:
            time.sleep(number * 0.005)
            body = {"model": f"acme/{NAMES[number % 4]}", "messages": [{"role": "user", "content": f"where is parcel {number}"}]}
            return client.post(CHAT, json=body).status_code, NAMES[number % 4]

        answers = [pool.submit(ask, number) for number in range(200)]
        wait_until(lambda: sum(answer.done() for answer in answers) > 20, 60)
        engines[0].kill()
        assert {answer.result()[0] for answer in answers} == {200}
        assert engines[1].poll() is None
        stack.enter_context(engine(tmp_path, places[0]))
        wait_until(places[0].exists, 60)
        assert {ask(number)[0] for number in range(8)} == {200}
    rows = house.rows()
    assert len(rows) == 208
    assert {(row.alias.removeprefix("acme/"), row.release) for row in rows} == set(releases.items())
