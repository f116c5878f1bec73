"""A gateway with several engine processes of its own: one that is killed takes no request with it, and all end with their gateway."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from support.processes import CHAT, gateway_process, is_alive, wait_ready, wait_until
from support.serving import House
from tailorbird.domain.engine_replica import ReplicaStanding

NAMES = [f"name-{number}" for number in range(4)]


@pytest.fixture(autouse=True)
def two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_ENGINE_PROCESSES", "2")


def test_a_process_that_is_killed_fails_no_request_and_is_started_again(house: House, tmp_path: Path) -> None:
    releases = {name: house.release(number) for number, name in enumerate(NAMES, 1)}
    for name, release in releases.items():
        house.point(name, release)
    headers = {"authorization": f"Bearer {house.key()[1]}"}
    with gateway_process(tmp_path) as running, httpx.Client(base_url=running.url, headers=headers, timeout=120) as client:
        wait_ready(running.url, running.process)
        first, second = (running.pid_of(f"model process {number}") for number in (1, 2))
        # Ready is a gateway of which one answers, and what never did is no process that fails.
        wait_until(lambda: all(f"model process {number} answers after" in running.errors.read_text() for number in (1, 2)))

        def ask(number: int) -> int:
            time.sleep(number * 0.005)
            body = {"model": f"acme/{NAMES[number % 4]}", "messages": [{"role": "user", "content": f"where is parcel {number}"}]}
            return client.post(CHAT, json=body).status_code

        with ThreadPoolExecutor(16) as pool:
            answers = [pool.submit(ask, number) for number in range(200)]
            wait_until(lambda: sum(answer.done() for answer in answers) > 20)
            os.kill(first, signal.SIGKILL)
            assert {answer.result() for answer in answers} == {200}
        assert is_alive(second)
        wait_until(lambda: running.errors.read_text().count("model process 1 answers after") == 2)
        wait_until(lambda: all(one.answers for one in standings(house)))
        addresses = [one.address for one in standings(house)]
        assert [address.rpartition("/")[2] for address in addresses] == ["1", "2"]
        assert {address.rpartition("/")[0].rpartition(":")[2] for address in addresses} == {running.url.rpartition(":")[2]}
        assert running.stop() == 0
        wait_until(lambda: not any(is_alive(pid) for pid in running.engine_pids()))
    rows = house.rows()
    assert len(rows) == 200
    assert {(row.alias.removeprefix("acme/"), row.release) for row in rows} == set(releases.items())


def standings(house: House) -> list[ReplicaStanding]:
    with house.ledger.system(write=False) as system:
        (told,) = system.gateways.replicas(house.clock.now()).values()
    return list(told)


def test_a_gateway_whose_processes_never_answer_ends_and_says_so(house: House, tmp_path: Path) -> None:
    with gateway_process(tmp_path, "broken") as running:
        assert running.wait() == 1
        said = running.errors.read_text()
    assert "error[engine_failed]: model process " in said
    assert not any(is_alive(pid) for pid in running.engine_pids())
