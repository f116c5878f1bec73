"""Hosted models for tests: registered for a tenant, and servers of the protocol on loopback, good and bad ones."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from support.doubles import MemoryEndpoint
from tailorbird.domain.endpoint import Endpoint
from tailorbird.domain.feedback import TrafficPolicy
from tailorbird.domain.prompt import Message
from tailorbird.usecases import Dependencies
from tailorbird.usecases.endpoints import add_endpoint
from tailorbird.usecases.identities import FIRST_PEOPLE, act_as, initialise
from tailorbird.usecases.tenants import set_policy

MODEL = "hosted-large"
SOURCE = {"origin": "written for this test", "license": "Apache-2.0", "processors": ["outside"]}
SECTION = {"endpoint": "outside", "model": MODEL}
#: What an objective needs that asks the endpoint ``outside``.
NAMED = {"hosted": SECTION, "data": [{"path": "rows.csv", "source": SOURCE}]}


def endpoint(**changes: object) -> Endpoint:
    fields: dict[str, object] = {"name": "outside", "url": "https://llm.example", "region": "EU (Example Ltd)", "key": "outside"}
    return Endpoint.model_validate(fields | {"input_price": 2.0, "output_price": 8.0} | changes)


def hosting(deps: Dependencies, client: MemoryEndpoint | None = None) -> Dependencies:
    """The workspace with a host, whose admin registers endpoints; ``client`` answers for all of them."""
    initialise(deps, "house", FIRST_PEOPLE)
    deps = replace(deps, host="house")
    return deps if client is None else replace(deps, endpoint_client=lambda _endpoint, _model: client)


def register(deps: Dependencies, made: Endpoint | None = None, tenant: str = "acme") -> None:
    add_endpoint(deps, act_as(deps, "house", "admin"), made or endpoint(), (tenant,))


def allow(deps: Dependencies, *names: str, tenant: str = "acme") -> None:
    set_policy(deps, act_as(deps, tenant, "admin"), TrafficPolicy(endpoints=names))


def last_word(prompt: Sequence[Message]) -> str:
    """The label that rows of ``write_objective`` are given by the twin engine."""
    return prompt[-1].content.split()[-1]


def event(text: str = "", model: str = MODEL, **more: object) -> bytes:
    """One event of a stream."""
    choice: dict[str, object] = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    body = {"model": model, "system_fingerprint": "fp_1", "choices": [choice | more]}
    return f"data: {json.dumps(body)}\n\n".encode()


USAGE = f"data: {json.dumps({'model': MODEL, 'choices': [], 'usage': {'prompt_tokens': 7, 'completion_tokens': 2}})}\n\n".encode()
DONE = b"data: [DONE]\n\n"
WHOLE = (event("lost"), event(" card"), event(finish_reason="stop", delta={}), USAGE, DONE)


@dataclass
class Reply:
    """What a server answers with: ``parts`` of the body, each after ``pause`` seconds; ``cut``: the connection ends without an end."""

    status: int = 200
    parts: Sequence[bytes] = WHOLE
    headers: dict[str, str] = field(default_factory=dict)
    pause: float = 0.0
    cut: bool = False


def fault(status: int, headers: dict[str, str] | None = None, **error: str) -> Reply:
    return Reply(status, (json.dumps({"error": {"message": "SECRET WORDS of the prompt", **error}}).encode(),), headers or {})


class ScriptedServer(ThreadingHTTPServer):
    """A server of the protocol that answers as it is told; the last reply of its script stays."""

    daemon_threads = True

    def __init__(self, *script: Reply) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = list(script)
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.headers: list[set[str]] = []
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def reply_to(self, body: dict[str, Any]) -> Reply:
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ScriptedServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append({"path": self.path} | body)
        self.server.headers.append({name.lower() for name in self.headers})
        self.server.keys.append(self.headers.get("authorization", ""))
        reply = self.server.reply_to(body)
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for part in reply.parts:
            if reply.pause and self.server.closing.wait(reply.pause):
                break
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.flush()
        if reply.cut:
            self.close_connection = True
        else:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


def scripted(*script: Reply) -> AbstractContextManager[ScriptedServer]:
    return serving(ScriptedServer(*(script or (Reply(),))))


@contextmanager
def serving(server: ScriptedServer) -> Iterator[ScriptedServer]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join(10)
        server.server_close()
