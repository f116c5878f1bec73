"""Connections to an engine: used again while they are good, closed otherwise, and nothing taken for an answer that is none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tailorbird.integrations.loopback import EngineConnections

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Peer:
    """Says ``answers``, one for each request; None: it hangs up instead. ``connections`` counts those that were opened."""

    answers: list[bytes | None]
    connections: int = 0
    heads: list[bytes] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    #: Hangs up behind each answer.
    leaves: bool = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                length = next(int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
                await reader.readexactly(length)
                answer = self.answers.pop(0)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
                if self.leaves or b" cut " in answer:
                    break
        except (asyncio.IncompleteReadError, OSError):
            pass
        self.gone.set()
        writer.close()


Story = Callable[[EngineConnections, Peer], Awaitable[None]]


def run(folder: Path, answers: Iterable[bytes | None], story: Story, kept: float = 2.0, *, leaves: bool = False) -> Peer:
    peers = []

    async def told() -> None:
        peer = Peer(list(answers), leaves=leaves)
        peers.append(peer)
        async with await asyncio.start_unix_server(peer.serve, folder / "s"):
            connections = EngineConnections(f"unix:{folder}/s", {"authorization": "Bearer s"}, connect=2.0, kept=kept)
            try:
                await story(connections, peer)
            finally:
                connections.close()
            await asyncio.sleep(0.01)

    asyncio.run(told())
    return peers[0]


async def ask(connections: EngineConnections, seconds: float = 5.0) -> tuple[int, bytes]:
    return await connections.ask("POST", "/score", "ü", {"x-request-id": "r1"}, seconds)


def test_one_connection_serves_many_requests_in_turn_and_as_many_as_ask_at_once(tmp_path: Path) -> None:
    async def story(connections: EngineConnections, peer: Peer) -> None:
        for _ in range(3):
            assert await ask(connections) == (200, b"ok")
        assert peer.connections == 1
        assert await asyncio.gather(ask(connections), ask(connections)) == [(200, b"ok")] * 2
        assert peer.connections == 2

    peer = run(tmp_path, [OK] * 5, story)
    wanted = (b"POST /score HTTP/1.1", b"host: engine", b"authorization: Bearer s", b"x-request-id: r1", b"content-length: 2")
    assert tuple(peer.heads[0].split(b"\r\n")[:5]) == wanted


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (None, EOFError),
        (b"HTTP/1.1 200 cut off\r\ncontent-length: 20\r\n\r\nok", EOFError),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", ValueError),
        (b"SSH-2.0-OpenSSH\r\n\r\n", ValueError),
    ],
)
def test_what_is_no_answer_is_an_error_and_its_connection_is_not_used_again(
    tmp_path: Path, answer: bytes | None, error: type[Exception]
) -> None:
    async def story(connections: EngineConnections, _: Peer) -> None:
        with pytest.raises(error):
            await ask(connections)
        assert await ask(connections) == (200, b"ok")

    assert run(tmp_path, [answer, OK], story).connections == 2


def test_a_connection_that_was_idle_for_long_or_was_closed_is_not_used_again(tmp_path: Path) -> None:
    async def story(connections: EngineConnections, peer: Peer) -> None:
        assert await ask(connections) == (200, b"ok")
        await asyncio.sleep(0.05)
        assert await ask(connections) == (200, b"ok")
        assert peer.connections == 2

    for name, kept, leaves in (("old", 0.01, False), ("closed", 2.0, True)):
        (tmp_path / name).mkdir()
        run(tmp_path / name, [OK, OK], story, kept, leaves=leaves)
