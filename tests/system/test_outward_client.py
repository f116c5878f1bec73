"""Clients for the outside world, by what the environment says of proxies and certificates."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tailorbird.domain.errors import Unavailable
from tailorbird.system.outward_access import outward_client

PROXIES = [f"{kind}_proxy" for kind in ("http", "https", "all", "no")]


class Answering(BaseHTTPRequestHandler):
    """Says what it was asked for."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Of a server that answers, as a proxy too."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_a_proxy_is_asked_for_other_machines_alone(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """``tailorbird --server http://127.0.0.1:8080`` had sent its login to the proxy."""
    monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{port}")
    with outward_client("http://other.invalid/") as client:
        assert client.get("http://other.invalid/x").text == "http://other.invalid/x"
    for host in ("127.0.0.1", "localhost"):
        with outward_client(f"http://{host}:{port}") as client:
            assert client.get(f"http://{host}:{port}/x").text == "/x"


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "nonsense://127.0.0.1:1"])
def test_a_proxy_that_cannot_be_used_is_told_with_a_code(proxy: str, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(Unavailable) as refused:
        outward_client("https://other.invalid")
    assert refused.value.error_code == "proxy_unusable"
    with outward_client(f"http://127.0.0.1:{port}") as client:
        assert client.get(f"http://127.0.0.1:{port}/x").text == "/x"
