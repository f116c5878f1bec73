"""Two real engine processes behind one gateway: one is killed under load, or drained; and a tenant that floods both delays no other."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from support.processes import CHAT, SECRET, in_thread, wait_ready, wait_until
from support.serving import House
from tailorbird.domain.engine_replica import ReplicaDrain
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.domain.value import Digest
from tailorbird.integrations.loopback import open_driver
from tailorbird.ports.engine import Chunk, EngineDriver
from tailorbird.processes import SECRET_VARIABLE, ReplicaSettings, gateway_app
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
class Recorder:
    """A driver that notes which release's request was put to it, in the order of ``order``."""

    driver: EngineDriver
    order: list[Digest]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.driver, name)

    def stream(
        self, release: Digest, prompt: Sequence[Message], sampling: Sampling, groups: frozenset[str] = frozenset()
    ) -> AsyncGenerator[Chunk, None]:
        self.order.append(release)
        return self.driver.stream(release, prompt, sampling, groups)


@dataclass
class Pair:
    """A gateway over two engine processes, each of which is given ``most`` requests at a time."""

    house: House
    folder: Path
    most: int = 256
    order: list[Digest] = field(default_factory=list)
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

        deps, names = replace(self.house.deps, host="acme"), ReplicaSettings(("one", "two"), self.most)
        with ExitStack() as stack:
            self.engines = [stack.enter_context(engine(self.folder, place)) for place in self.places]
            wait_until(lambda: all(place.exists() for place in self.places), 60)
            noted: list[Any] = [Recorder(driver, self.order) for driver in drivers]
            self.url, _ = stack.enter_context(in_thread(lambda: gateway_app(deps, noted, names=names), last=close))
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


def test_a_drained_replica_is_ended_under_load_and_no_request_notices(house: House, tmp_path: Path) -> None:
    for number, name in enumerate(NAMES, 1):
        house.point(name, house.release(number, task=TaskKind.GENERATE))
    pair = Pair(house, tmp_path)
    with pair.running() as stack:
        client = stack.enter_context(pair.client())
        pool = stack.enter_context(ThreadPoolExecutor(16))

        def ask(number: int) -> int:
            body = {"model": f"acme/{NAMES[number % 4]}", "messages": [{"role": "user", "content": f"where is parcel {number}"}]}
            return client.post(CHAT, json=body).status_code

        def is_empty() -> bool:
            with house.ledger.system(write=False) as system:
                told = system.gateways.replicas(house.clock.now())
            return [one.is_empty for seen in told.values() for one in seen if one.address == "one"] == [True]

        answers = [pool.submit(ask, number) for number in range(300)]
        wait_until(lambda: sum(answer.done() for answer in answers) > 20, 60)
        with house.ledger.system() as system:
            host = system.tenants.get("acme")
            system.tenants.replace(host.model_copy(update={"drained": (ReplicaDrain(address="one"),)}))
        wait_until(is_empty, 60)
        pair.engines[0].kill()
        assert {answer.result() for answer in answers} == {200}
    assert len(house.rows()) == 300


def test_a_tenant_that_floods_both_replicas_delays_no_other(house: House, tmp_path: Path) -> None:
    """Counted in requests: of 64 that wait, hardly any goes on between the moment in which a quiet tenant asks and that in which its
    request goes on."""
    flood, quiet = house.release(1, task=TaskKind.GENERATE), house.release(2, tenant="globex", task=TaskKind.GENERATE)
    house.point("flood", flood)
    house.point("quiet", quiet, tenant="globex")
    pair = Pair(house, tmp_path, most=4)
    body = {"messages": [{"role": "user", "content": "where is the parcel that I sent a week ago"}]}
    ahead = []
    with pair.running() as stack:
        flooding, other = stack.enter_context(pair.client()), stack.enter_context(pair.client("globex"))
        pool = stack.enter_context(ThreadPoolExecutor(64))
        asking = [pool.submit(flooding.post, CHAT, json=body | {"model": "acme/flood"}) for _ in range(300)]
        wait_until(lambda: len(pair.order) >= 24, 60)
        while len(ahead) < 12:
            came = len(pair.order)
            assert other.post(CHAT, json=body | {"model": "globex/quiet"}).status_code == 200
            ahead.append(pair.order.index(quiet, came) - came)
        assert not all(answer.done() for answer in asking), "the flood was there all the time"
        assert {answer.result().status_code for answer in asking} == {200}
    assert sorted(ahead)[math.ceil(0.95 * len(ahead)) - 1] <= 8, "no more than the replicas answer at a time"
