"""``tailorbird plan --serve`` as somebody types it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest
import yaml

from support.capacity import FILE, TIMINGS
from support.cli import tailorbird


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert tailorbird(tmp_path, "init", "--tenant", "acme").returncode == 0
    timings = TIMINGS.model_dump(mode="json", exclude_defaults=True)
    (tmp_path / "traffic.yaml").write_text(yaml.safe_dump(FILE | {"timings": timings}))
    return tmp_path


def test_the_plan_of_a_file(folder: Path) -> None:
    shown = tailorbird(folder, "plan", "--serve", "traffic.yaml", "--why")
    assert shown.returncode == 0, shown.stderr
    for words in (
        "hit rate",
        "each replica holds 120 adapters in memory, of 60",
        "cliff by adapters",
        "timings: the engine's timings were stated",
    ):
        assert words in shown.stdout
    told = json.loads(tailorbird(folder, "--json", "plan", "--serve", "traffic.yaml").stdout)
    assert told["reading"]["replicas"] == 1
    assert f"{told['reading']['p95_ms']:,.0f}" in shown.stdout


def test_what_goes_with_no_traffic_is_refused(folder: Path) -> None:
    for options, code in (
        (("objective.yaml",), "serve_options"),
        (("--probe",), "serve_options"),
        (("--precisions",), "serve_options"),
        (("--server", "http://127.0.0.1:9"), "local_only"),
    ):
        done = tailorbird(folder, "plan", "--serve", "traffic.yaml", *options)
        assert done.returncode == 1
        assert f"error[{code}]" in done.stderr


class _Listener(BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.headers.get("authorization", ""))
        self.send_error(503)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    """Of a server that notes what it is sent, which the traffic of ``folder`` names."""
    _Listener.asked.clear()
    server = HTTPServer(("127.0.0.1", 0), _Listener)
    thread = Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    (folder / "traffic.yaml").write_text(yaml.safe_dump(FILE | {"gateway": {"url": url, "key_file": "key.txt"}}))
    yield url
    server.shutdown()
    thread.join()
    server.server_close()


def test_no_secret_but_an_api_key_is_sent(folder: Path, address: str) -> None:
    key = f"tb_{'0' * 12}_{'A' * 43}"
    for secret in ("hunter2", f"{key}\nhunter2", "sk-" + "a" * 48, "x" * 5000, ""):
        (folder / "key.txt").write_text(secret)
        done = tailorbird(folder, "plan", "--serve", "traffic.yaml", "--measure")
        assert "error[traffic_invalid]" in done.stderr
        assert "hunter2" not in done.stdout + done.stderr
    assert _Listener.asked == []
    (folder / "key.txt").write_text(f"{key}\n")
    done = tailorbird(folder, "plan", "--serve", "traffic.yaml", "--measure")
    assert "error[serving_unmeasured]" in done.stderr
    assert _Listener.asked == [f"Bearer {key}"]
