"""Frames between a caller and its child: kind, length, JSON."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

#: What a frame says: a value; the end; an error of ours (code, message, hint); a limit of memory that was met; another exception's name.
VALUE, END, ERROR, MEMORY, BROKEN = range(5)
#: No frame has more bytes.
LONGEST = 1 << 28
_HEAD = struct.Struct(">BI")


def encode(value: Any) -> bytes:
    """JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_other).encode("utf-8", "surrogatepass")


def decode(data: bytes | bytearray) -> Any:
    """What ``encode`` was given. Raises ValueError, RecursionError."""
    return json.loads(data.decode("utf-8", "surrogatepass"))


def _other(_: object) -> dict[str, Any]:
    """Values that JSON does not have are nothing that a row could use."""
    return {}


def send(to: socket.socket, kind: int, data: bytes) -> None:
    """Writes a frame. Raises OSError when nobody reads any more."""
    to.sendall(_HEAD.pack(kind, len(data)))
    to.sendall(data)


def receive(source: socket.socket) -> tuple[int, bytearray]:
    """The next frame. Raises EOFError when there is none, ValueError for one that is too long, TimeoutError as the socket does."""
    kind, length = _HEAD.unpack(_exactly(source, _HEAD.size))
    if length > LONGEST:
        raise ValueError("a frame is too long")
    return kind, _exactly(source, length)


def _exactly(source: socket.socket, length: int) -> bytearray:
    data = bytearray(length)
    view, got = memoryview(data), 0
    while got < length:
        count = source.recv_into(view[got:])
        if not count:
            raise EOFError
        got += count
    return data
