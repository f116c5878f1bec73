"""What clients do to a gateway, by accident or not: too much, too slowly, half, garbage. It answers, or refuses, and goes on for others."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx
import pytest

from support.doubles import MemoryEngine
from support.processes import ASK, CHAT, Live, live, wait_until
from support.serving import House
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import Generation
from tailorbird.processes import http_servers


class CountingEngine(MemoryEngine):
    """Knows how many words it has said, and whether it is at work."""

    def __init__(self) -> None:
        super().__init__(delay=0.002)
        self.said = 0
        self.working = False

    def generate(
        self,
        servable: Digest,
        prompts: Sequence[Sequence[Message]],
        sampling: Sampling,
        on_text: Callable[[int, str], bool] | None = None,
    ) -> list[Generation]:
        def count(index: int, text: str) -> bool:
            self.said += 1
            return on_text is None or on_text(index, text)

        self.working = True
        try:
            return super().generate(servable, prompts, sampling, count)
        finally:
            self.working = False


@pytest.fixture
def engine() -> CountingEngine:
    return CountingEngine()


@pytest.fixture
def served(house: House, engine: CountingEngine) -> Iterator[Live]:
    """A gateway with a classifier, and a writer that answers in as many words as it is asked in."""
    house.point("routing", house.release())
    house.point("writer", house.release(2, task=TaskKind.GENERATE))
    with live(house, engine) as running:
        yield running


def ask(served: Live, **changes: object) -> httpx.Response:
    return httpx.post(served.url + CHAT, json=ASK | changes, headers=served.headers, timeout=30)


def say(content: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": content}]


def address(served: Live) -> tuple[str, int]:
    parts = urlsplit(served.url)
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


@pytest.mark.parametrize(
    ("content", "status"),
    [("word " * 20_000, 400), ("\U0001f41f" * 100_000, 200)],
    ids=["more words than the context holds", "400,000 bytes of signs"],
)
def test_a_message_of_100_000_characters(served: Live, house: House, content: str, status: int) -> None:
    """Answered where the context holds it, refused by that rule where it does not; a word is a token here."""
    answer = ask(served, messages=say(content))
    assert answer.status_code == status
    if status == 400:
        assert answer.json()["error"]["code"] == "prompt_too_long"
        assert len(answer.text) < 1000, "the message came back in the error"
    wait_until(lambda: len(house.ended()) == 1, 10)
    assert ask(served).status_code == 200


def test_a_body_of_10_mb_is_refused_before_it_is_read(served: Live) -> None:
    """Announced: refused at its head. Not announced: as soon as there is more than is taken."""
    with socket.create_connection(address(served), timeout=10) as raw:
        raw.sendall(head_of(served, "content-length: 10000000"))
        assert status_of(raw) == 413
    with socket.create_connection(address(served), timeout=10) as raw:
        raw.sendall(head_of(served, "transfer-encoding: chunked"))
        piece = b"%x\r\n%s\r\n" % (1 << 16, b" " * (1 << 16))
        sent = send_until_refused(raw, piece, 160)
        assert status_of(raw) == 413
    assert sent < 10 * 2**20
    assert ask(served).status_code == 200


def head_of(served: Live, *lines: str) -> bytes:
    wanted = [f"POST {CHAT} HTTP/1.1", "host: test", f"authorization: Bearer {served.secret}", "content-type: application/json", *lines]
    return ("\r\n".join(wanted) + "\r\n\r\n").encode()


def send_until_refused(raw: socket.socket, piece: bytes, times: int) -> int:
    """Sends as long as nothing comes back; how many bytes."""
    sent = 0
    raw.settimeout(0.02)
    for _ in range(times):
        try:
            raw.sendall(piece)
            sent += len(piece)
            if raw.recv(1, socket.MSG_PEEK):
                break
        except TimeoutError:
            continue
        except ConnectionError:
            break
    raw.settimeout(10)
    return sent


def status_of(raw: socket.socket) -> int:
    return int(raw.recv(64).split()[1])


#: How far a client comes before it stops and stays.
LEFT = {
    "nothing": b"",
    "half a head": b"POST /v1/chat/completions HTTP/1.1\r\nhost: te",
    "a head without its body": b"POST /v1/chat/completions HTTP/1.1\r\nhost: test\r\ncontent-length: 100\r\n\r\n{",
}


def test_200_connections_opened_and_left(served: Live, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are answered meanwhile, and the connections are closed after a while."""
    monkeypatch.setattr(http_servers, "HEAD_SECONDS", 2.0)
    monkeypatch.setattr(http_servers, "SILENT_SECONDS", 2.0)
    starts = list(LEFT.values())
    with ExitStack() as open_sockets:
        left = [open_sockets.enter_context(socket.create_connection(address(served), timeout=10)) for _ in range(200)]
        for number, raw in enumerate(left):
            raw.sendall(authorised(starts[number % 3], served))
        assert all(ask(served).status_code == 200 for _ in range(10))
        wait_until(lambda: len(served.server.server_state.connections) <= 1, 15)
        assert all(is_closed(raw) for raw in left)
    assert {row.outcome for row in house.rows()} <= {"ok", "aborted"}
    assert ask(served).status_code == 200


def authorised(start: bytes, served: Live) -> bytes:
    return start.replace(b"content-length", b"authorization: Bearer " + served.secret.encode() + b"\r\ncontent-length")


def is_closed(raw: socket.socket) -> bool:
    """True when the other side has ended it, whatever it said before."""
    raw.settimeout(0.5)
    try:
        while raw.recv(4096):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


def test_a_head_that_drips_is_not_waited_for(served: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then does not make it alive."""
    monkeypatch.setattr(http_servers, "HEAD_SECONDS", 1.0)
    with socket.create_connection(address(served), timeout=10) as raw:
        with pytest.raises(ConnectionError):
            drip(raw, b"GET /healthz HTTP/1.1\r\nx: " + b"y" * 1000)


def drip(raw: socket.socket, data: bytes) -> None:
    for byte in data:
        raw.sendall(bytes([byte]))
        time.sleep(0.05)


def test_a_body_that_comes_slowly_is_taken(served: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slower than a head may be, but never silent for long."""
    monkeypatch.setattr(http_servers, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(http_servers, "SILENT_SECONDS", 1.0)
    body = b'{"model": "acme/routing", "messages": [{"role": "user", "content": "I lost my card"}]}'
    with socket.create_connection(address(served), timeout=10) as raw:
        raw.sendall(head_of(served, f"content-length: {len(body)}"))
        for start in range(0, len(body), 20):
            time.sleep(0.4)
            raw.sendall(body[start : start + 20])
        assert status_of(raw) == 200


def test_a_body_that_drips_is_not_waited_for_to_its_end(served: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never silent, and yet it would take a quarter of an hour."""
    monkeypatch.setattr(http_servers, "BODY_SECONDS", 1.0)
    with socket.create_connection(address(served), timeout=10) as raw:
        raw.sendall(head_of(served, "content-length: 10000"))
        with pytest.raises(OSError):
            drip(raw, b" " * 500)


def test_50_clients_that_hang_up_in_mid_stream(served: Live, house: House, engine: CountingEngine) -> None:
    """The engine stops for each of them, and each leaves a row."""
    question = ASK | {"model": "acme/writer", "stream": True, "max_tokens": 1500, "messages": say("word " * 1500)}
    for _ in range(50):
        with httpx.stream("POST", served.url + CHAT, json=question, headers=served.headers, timeout=30) as response:
            next(response.iter_lines())
    wait_until(lambda: len(house.ended()) == 50, 30)
    wait_until(lambda: not engine.working, 10)
    said = engine.said
    assert said < 50 * 750, "it went on for clients that had gone"
    assert {(row.status, row.outcome) for row in house.rows()} == {(499, "aborted")}
    assert ask(served, model="acme/writer", messages=say("still there")).status_code == 200
    assert engine.said == said + 3


def test_a_client_that_reads_nothing_holds_nobody_up(served: Live, house: House, engine: CountingEngine) -> None:
    """Its stream waits; others are answered meanwhile; when it goes at last, it leaves a row and the engine is free."""
    body = json.dumps(ASK | {"model": "acme/writer", "stream": True, "max_tokens": 1900, "messages": say("word " * 1900)}).encode()
    with socket.create_connection(address(served)) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.sendall(head_of(served, f"content-length: {len(body)}") + body)
        wait_until(lambda: engine.said > 10, 10)
        assert [ask(served).status_code for _ in range(10)] == [200] * 10
    wait_until(lambda: len(house.ended()) == 11, 30)
    wait_until(lambda: not engine.working, 10)
    assert {row.outcome for row in house.rows()} <= {"ok", "aborted"}


GARBAGE = {
    "noise": bytes(range(256)) * 8,
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500,
    "two lengths": b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
    "a head without end": b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 200_000,
    "many headers": b"GET / HTTP/1.1\r\n" + b"".join(b"x-%d: y\r\n" % n for n in range(20_000)),
    "an upgrade": b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x\r\n\r\n",
}


def test_garbage_instead_of_http(served: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_servers, "HEAD_SECONDS", 1.0)
    for name, garbage in GARBAGE.items():
        with socket.create_connection(address(served), timeout=10) as raw:
            answer = answer_to(raw, garbage)
        # Some of it can be read: / leads to the console.
        assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 303")), (name, answer[:80])
        assert httpx.get(f"{served.url}/healthz", timeout=5).status_code == 200, name
    assert threading.active_count() < 100


def answer_to(raw: socket.socket, garbage: bytes) -> bytes:
    """The beginning of what comes back; nothing when the other side just ends it."""
    try:
        raw.sendall(garbage)
        return raw.recv(4096)
    except ConnectionError:
        return b""
