"""SIGKILL of gateway and engine under traffic: what was acknowledged has its row, answers come back, no process is left behind."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time

import httpx
import pytest

from support.processes import ASK, CHAT, Process, gateway_process, is_alive, wait_ready, wait_until
from support.serving import House
from support.traffic import traffic
from tailorbird.domain.objective import TaskKind


@pytest.fixture
def secret(house: House) -> str:
    house.point("routing", house.release())
    house.point("writer", house.release(2, task=TaskKind.GENERATE))
    return house.key()[1]


def nothing_is_left(running: Process) -> None:
    wait_until(lambda: not any(is_alive(pid) for pid in running.engine_pids()), 30)


def kill_engine(running: Process) -> None:
    """Kills it, and waits until another was started."""
    before = running.engine_pids()
    os.kill(before[-1], signal.SIGKILL)
    wait_until(lambda: len(running.engine_pids()) > len(before))


@pytest.mark.slow
def test_an_engine_that_is_killed_again_and_again_under_traffic(house: House, secret: str) -> None:
    with gateway_process(house.folder) as running:
        wait_ready(running.url, running.process)
        with traffic(running.url, secret) as told:
            for _ in range(2):
                told.goes_on()
                kill_engine(running)
            told.goes_on()
        assert running.stop() == 0
        nothing_is_left(running)
    assert set(told.statuses) <= {200, 503}, told.statuses
    outcomes = {row.id: row.outcome for row in house.rows()}
    assert {outcomes[answer] for answer in told.answered} == {"ok"}
    assert len(outcomes) == told.statuses.total(), "a request that was refused left no row"


@pytest.mark.slow
def test_a_gateway_that_is_killed_again_and_again_under_traffic(house: House, secret: str) -> None:
    draw, answered = random.Random(7), []
    for _ in range(3):
        with gateway_process(house.folder) as running:
            wait_ready(running.url, running.process)
            with traffic(running.url, secret) as told:
                told.goes_on(4)
                time.sleep(draw.uniform(0, 0.3))
                running.stop(signal.SIGKILL)
            answered += told.answered
            nothing_is_left(running)
    assert len(answered) >= 12
    assert {row.id for row in house.rows()} >= set(answered)


@pytest.mark.parametrize("victim", ["engine", pytest.param("gateway", marks=pytest.mark.slow)])
def test_a_stream_whose_server_is_killed_ends(house: House, secret: str, victim: str) -> None:
    """The client is not left waiting, and is not told that the answer is whole."""
    question = ASK | {"model": "acme/writer", "stream": True, "messages": [{"role": "user", "content": "word " * 400}]}
    with gateway_process(house.folder) as running:
        wait_ready(running.url, running.process)
        lines: list[str] = []
        with httpx.stream("POST", running.url + CHAT, json=question, headers={"authorization": f"Bearer {secret}"}, timeout=20) as response:
            broke = read_until_it_ends(response, lines, running, victim)
        assert broke == (victim == "gateway")
        assert "data: [DONE]" not in lines
        if victim == "engine":
            assert any('"error"' in line for line in lines[-3:])
            wait_until(lambda: any(row.outcome not in ("ok", "aborted") for row in house.ended()))
    nothing_is_left(running)


def read_until_it_ends(response: httpx.Response, lines: list[str], running: Process, victim: str) -> bool:
    """Kills the victim after a few lines; True when the connection broke."""
    try:
        for line in response.iter_lines():
            lines.append(line)
            if len(lines) == 5:
                os.kill(running.engine_pids()[0] if victim == "engine" else running.process.pid, signal.SIGKILL)
    except httpx.TransportError:
        return True
    return False


@pytest.mark.slow
def test_both_killed_at_once_leave_a_whole_record(house: House, secret: str) -> None:
    with gateway_process(house.folder) as running:
        wait_ready(running.url, running.process)
        with traffic(running.url, secret) as told:
            told.goes_on()
            os.kill(running.engine_pids()[0], signal.SIGKILL)
            running.stop(signal.SIGKILL)
    nothing_is_left(running)
    assert {row.id for row in house.rows()} >= set(told.answered)
    with sqlite3.connect(house.folder / "tailorbird.db") as record:
        assert record.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
