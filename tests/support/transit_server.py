"""A small server of Vault's transit protocol on loopback: keys with versions, encrypt, decrypt, rotate; and faults on demand."""

from __future__ import annotations

import base64
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TOKEN = "a-token"


@dataclass
class TransitServer:
    """Its state. ``fault``: ``slow``, ``trickle``, ``lies``, ``no json``, ``no field``, ``status 503``, ``redirect`` or ``huge``."""

    url: str = ""
    versions: list[bytes] = field(default_factory=lambda: [secrets.token_bytes(32)])
    fault: str = ""
    asked: list[str] = field(default_factory=list)

    def rotate(self) -> None:
        self.versions.append(secrets.token_bytes(32))

    def encrypt(self, body: dict[str, str]) -> dict[str, Any]:
        nonce = secrets.token_bytes(12)
        sealed = AESGCM(self.versions[-1]).encrypt(nonce, base64.b64decode(body["plaintext"]), _associated(body))
        return {"ciphertext": f"vault:v{len(self.versions)}:{base64.b64encode(nonce + sealed).decode()}", "key_version": len(self.versions)}

    def decrypt(self, body: dict[str, str]) -> dict[str, Any]:
        _, version, text = body["ciphertext"].split(":")
        sealed = base64.b64decode(text)
        plain = AESGCM(self.versions[int(version[1:]) - 1]).decrypt(sealed[:12], sealed[12:], _associated(body))
        return {"plaintext": base64.b64encode(bytes(len(plain)) if self.fault == "lies" else plain).decode()}


def _associated(body: dict[str, str]) -> bytes:
    return base64.b64decode(body.get("associated_data", ""))


#: What a faulty server sends in place of an answer.
_BODIES = {
    "no json": (200, b"<html>"),
    "no field": (200, b'{"data": {}}'),
    "huge": (200, b" " * (1 << 20)),
    "status 503": (503, b'{"errors": ["Vault is sealed"]}'),
}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    state: TransitServer


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body, state = json.loads(self.rfile.read(int(self.headers["content-length"]))), self.server.state
        state.asked.append(self.path)
        verbs = {"/v1/transit/encrypt/workspace": state.encrypt, "/v1/transit/decrypt/workspace": state.decrypt}
        if self.headers.get("x-vault-token") != TOKEN:
            self._send(403, b'{"errors": ["permission denied"]}')
        elif state.fault not in ("", "lies"):
            self._fail(state)
        elif self.path not in verbs:
            self._send(404, b'{"errors": []}')
        else:
            self._do(verbs[self.path], body)

    def _do(self, verb: Callable[[dict[str, str]], dict[str, Any]], body: dict[str, str]) -> None:
        try:
            self._send(200, json.dumps({"data": verb(body)}).encode())
        except (InvalidTag, ValueError, IndexError):
            self._send(400, b'{"errors": ["cipher: message authentication failed"]}')

    def _fail(self, state: TransitServer) -> None:
        if state.fault == "slow":
            time.sleep(2)
        elif state.fault == "trickle":
            self._head(200, 1000)
            for _ in range(20):
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.1)
        elif state.fault == "redirect":
            self._head(307, 0, location=f"{state.url}/elsewhere")
        else:
            self._send(*_BODIES[state.fault])

    def _send(self, status: int, body: bytes) -> None:
        self._head(status, len(body))
        self.wfile.write(body)

    def _head(self, status: int, size: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"content-length": str(size), **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...

    def handle(self) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # whoever asked has had enough
            super().handle()


@contextmanager
def running_transit() -> Iterator[TransitServer]:
    """A server with the key ``transit/workspace``; its URL is that of the key."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.state = TransitServer(f"http://127.0.0.1:{server.server_address[1]}/transit/workspace")
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server.state
    finally:
        server.shutdown()
        server.server_close()
