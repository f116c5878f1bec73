"""Real processes: started, killed, restarted, ended; nothing is left behind and no acknowledged row is lost."""

from __future__ import annotations

import os
import signal
import stat
from pathlib import Path

import httpx
import pytest

from support.processes import ASK, CHAT, gateway_process, is_alive, wait_ready, wait_until
from support.serving import House
from tailorbird.domain.errors import Forbidden, Unavailable
from tailorbird.processes.http_servers import listen, listen_privately


@pytest.fixture
def headers(house: House) -> dict[str, str]:
    house.point("routing", house.release())
    return {"authorization": f"Bearer {house.key()[1]}"}


def test_an_engine_that_is_killed_comes_back_with_its_releases(house: House, headers: dict[str, str], tmp_path: Path) -> None:
    with gateway_process(tmp_path) as running:
        wait_ready(running.url, running.process)
        assert httpx.post(running.url + CHAT, json=ASK, headers=headers).status_code == 200
        (first,) = running.engine_pids()
        os.kill(first, signal.SIGKILL)
        refused = httpx.post(running.url + CHAT, json=ASK, headers=headers)
        assert refused.status_code in (200, 503)
        wait_until(lambda: len(running.engine_pids()) == 2)
        wait_until(lambda: httpx.post(running.url + CHAT, json=ASK, headers=headers).status_code == 200)
        assert running.stop() == 0
        wait_until(lambda: not any(is_alive(pid) for pid in running.engine_pids()))
    outcomes = {row.outcome for row in house.rows()}
    assert "ok" in outcomes
    assert all(row.status == 503 for row in house.rows() if row.outcome != "ok")


def test_an_engine_that_hangs_is_started_again(
    house: House, headers: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_HUNG_AFTER", "4")
    with gateway_process(tmp_path) as running:
        wait_ready(running.url, running.process)
        (first,) = running.engine_pids()
        os.kill(first, signal.SIGSTOP)
        wait_until(lambda: len(running.engine_pids()) == 2, 60)
        assert not is_alive(first)
        wait_until(lambda: httpx.post(running.url + CHAT, json=ASK, headers=headers, timeout=30).status_code == 200)
        assert "does not answer for" in running.errors.read_text()
        assert running.stop() == 0


def test_nobody_else_on_the_machine_can_reach_the_engine_or_take_its_place(house: House, headers: dict[str, str], tmp_path: Path) -> None:
    with gateway_process(tmp_path) as running:
        wait_ready(running.url, running.process)
        (pid,) = running.engine_pids()
        place = next(Path(word.decode()) for word in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") if word.endswith(b".sock"))
        assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(place.stat().st_mode) == 0o600
        assert not _listens_on_tcp(pid)
        os.kill(pid, signal.SIGKILL)
        assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
        wait_until(lambda: httpx.post(running.url + CHAT, json=ASK, headers=headers).status_code == 200)
        assert running.stop() == 0
    assert not place.parent.exists()


def _listens_on_tcp(pid: int) -> bool:
    sockets = {str(each.readlink()) for each in Path(f"/proc/{pid}/fd").iterdir()}
    rows = [row.split() for name in ("tcp", "tcp6") for row in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]]
    return any(f"socket:[{row[9]}]" in sockets and row[3] == "0A" for row in rows)


def test_a_socket_in_an_open_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "open").chmod(0o755)
    with pytest.raises(Forbidden) as refused:
        listen_privately(tmp_path / "open" / "engine.sock")
    assert refused.value.error_code == "forbidden"
    with pytest.raises(Unavailable):
        listen_privately(tmp_path / ("x" * 120))


def test_a_gateway_that_is_killed_leaves_no_engine_and_loses_no_acknowledged_row(
    house: House, headers: dict[str, str], tmp_path: Path
) -> None:
    with gateway_process(tmp_path) as running:
        wait_ready(running.url, running.process)
        answered = [httpx.post(running.url + CHAT, json=ASK, headers=headers).json()["id"] for _ in range(5)]
        running.stop(signal.SIGKILL)
        wait_until(lambda: not is_alive(running.engine_pids()[0]))
    assert {row.id for row in house.rows()} >= set(answered)


def test_the_secret_is_in_no_process_list(house: House, headers: dict[str, str], tmp_path: Path) -> None:
    with gateway_process(tmp_path) as running:
        wait_ready(running.url, running.process)
        (pid,) = running.engine_pids()
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        secret = next(
            item.partition(b"=")[2]
            for item in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if item.startswith(b"TAILORBIRD_ENGINE_SECRET=")
        )
        assert len(secret) > 30
        assert not any(secret in argument for argument in arguments)
        assert secret.decode() not in running.errors.read_text()
        assert running.stop(signal.SIGINT) == 0


def test_an_engine_that_never_answers_ends_the_gateway_with_a_reason(house: House, headers: dict[str, str], tmp_path: Path) -> None:
    with gateway_process(tmp_path, "broken") as running:
        assert running.wait() == 1
    said = running.errors.read_text()
    assert "error[engine_unavailable]" in said
    assert "Traceback" not in said


def test_a_port_in_use_is_refused_before_anything_starts(house: House, tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable) as refused:
            listen("127.0.0.1", port)
        assert refused.value.error_code == "port_in_use"
        assert "--port" in refused.value.hint
        with gateway_process(tmp_path, port=port) as running:
            assert running.wait() == 1
    assert "error[port_in_use]" in running.errors.read_text()
    assert running.engine_pids() == []
