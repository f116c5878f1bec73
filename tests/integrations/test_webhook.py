"""The webhook against real servers on this machine: patient, bounded, signed, and silent about what it carries."""

from __future__ import annotations

import hashlib
import hmac
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from tailorbird.domain.errors import InvalidInput, Unavailable
from tailorbird.integrations.webhook import WebhookNotifier, open_notifier

MESSAGE = {"text": "Half failed, says the private message.", "signals": [{"value": 0.5, "n": 100}]}
SECRET = "shared between the two"


class Receiver(ThreadingHTTPServer):
    """Answers with the statuses it was given, the last one again and again; 0 means never. Remembers every request."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, *statuses: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses = list(statuses)
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook/private-token"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver
    headers_of: ClassVar[dict[int, tuple[str, str]]] = {302: ("location", "/elsewhere")}

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        status = self.server.statuses[min(len(self.server.got), len(self.server.statuses)) - 1]
        if status == 0:
            self.server.released.wait(10)
            return
        self.send_response(status)
        if status in self.headers_of:
            self.send_header(*self.headers_of[status])
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def receiver(*statuses: int) -> Iterator[Receiver]:
    server = Receiver(*statuses)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


def notifier(url: str, secret: str = "", timeout: float = 5.0) -> WebhookNotifier:
    return WebhookNotifier(url, secret, timeout=timeout, pause=0.01)


def test_the_signature_is_over_time_and_body():
    with receiver(204) as server:
        open_notifier(server.url, SECRET).send(MESSAGE)
    ((_, headers, body),) = server.got
    at, signature = (part.split("=", 1)[1] for part in headers["x-tailorbird-signature"].split(","))
    assert headers["x-tailorbird-signature"] == f"t={at},v1={signature}"
    assert abs(time.time() - int(at)) < 60
    assert signature == hmac.new(SECRET.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()


@pytest.mark.parametrize(
    "passing",
    [
        500,
        429,
    ],
)
def test_two_failures_and_then_a_receipt(passing: int):
    with receiver(passing, passing, 200) as server:
        notifier(server.url).send(MESSAGE)
    assert len(server.got) == 3
    assert len({headers["x-tailorbird-delivery"] for _, headers, _ in server.got}) == 1


def test_a_server_that_hangs_is_given_up():
    with receiver(0) as server, pytest.raises(Unavailable, match="no answer came in time"):
        notifier(server.url, timeout=0.2).send(MESSAGE)
    assert len(server.got) == 3


def test_a_redirect_is_not_followed_and_not_tried_again():
    with receiver(302) as server, pytest.raises(Unavailable, match="answered 302"):
        notifier(server.url).send(MESSAGE)
    assert [path for path, _, _ in server.got] == ["/hook/private-token"]


@pytest.mark.parametrize(
    "status",
    [
        400,
        410,
    ],
)
def test_a_refusal_for_good_is_not_tried_again(status: int):
    with receiver(status) as server, pytest.raises(Unavailable):
        notifier(server.url).send(MESSAGE)
    assert len(server.got) == 1


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://example.com",
        "file:///etc/passwd",
        "https://ada:pw@example.com",
    ],
)
def test_an_address_that_is_no_plain_web_address_is_refused(url: str):
    with pytest.raises(InvalidInput) as refusal:
        open_notifier(url)
    assert refusal.value.error_code == "invalid_input"
    assert "pw" not in refusal.value.message


def test_neither_message_nor_address_nor_secret_is_logged_or_in_an_error(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    with receiver(200) as server:
        notifier(server.url, SECRET).send(MESSAGE)
    with receiver(500) as server, pytest.raises(Unavailable) as refusal:
        notifier(server.url, SECRET).send(MESSAGE)
    told = caplog.text + str(refusal.value) + refusal.value.hint
    for private in ("private", SECRET, "Half failed"):
        assert private not in told
