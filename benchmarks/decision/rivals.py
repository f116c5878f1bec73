"""A hosted model of known accuracy, served over HTTP on loopback: it knows the answers of a bed's rows, and errs on a fixed share of them.

In: texts with their answers, how many it answers rightly. Out: a server of OpenAI's chat completions, as a stream, with counts of tokens;
and the workspace in which a tenant may ask it. Must not know: rungs, targets, which part of a bed a row is of.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tailorbird.domain.endpoint import Endpoint
from tailorbird.domain.feedback import TrafficPolicy
from tailorbird.usecases import Dependencies
from tailorbird.usecases.endpoints import add_endpoint
from tailorbird.usecases.identities import FIRST_PEOPLE, act_as, initialise
from tailorbird.usecases.tenants import set_policy

NAME = "rival"
#: Euros of 1,000,000 tokens: what small hosted models cost.
INPUT_PRICE, OUTPUT_PRICE = 0.15, 0.60
_HOST = "house"


class Rival(ThreadingHTTPServer):
    """Answers what stands last in a conversation: rightly where the text's hash says so, else with the answer of another text."""

    daemon_threads = True

    def __init__(self, answers: Mapping[str, str], share: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        wrong = sorted(set(answers.values()))
        self._said = {_bare(text): answer if _draw(text) < share else _other(wrong, answer, text) for text, answer in answers.items()}
        self.requests = 0

    @property
    def url(self) -> str:
        """Where it is asked."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, text: str) -> str:
        """What it says to ``text``; to one that it does not know, that it does not."""
        self.requests += 1
        return self._said.get(_bare(text), "I do not know.")


def _bare(text: str) -> str:
    return " ".join(text.split())


def _draw(text: str) -> float:
    """A number below 1 that hangs on the text alone."""
    return int.from_bytes(hashlib.sha256(_bare(text).encode()).digest()[:6], "big") / 2**48


def _other(known: list[str], right: str, text: str) -> str:
    others = [answer for answer in known if answer != right]
    return others[hashlib.sha256(f"other {text}".encode()).digest()[0] % len(others)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Rival

    def do_POST(self) -> None:
        """A chat completion, as a stream of two events and the counts of tokens (words stand in for them)."""
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        said = self.server.answer(asked["messages"][-1]["content"])
        read = sum(len(message["content"].split()) for message in asked["messages"])
        usage = {"prompt_tokens": read, "completion_tokens": len(said.split())}
        choices = ({"delta": {"content": said}, "finish_reason": None}, {"delta": {}, "finish_reason": "stop"})
        events: list[dict[str, Any]] = [{"choices": [{"index": 0} | choice]} for choice in choices]
        told = {"model": asked["model"], "system_fingerprint": "rival-1"}
        lines = [json.dumps(told | event) for event in (*events, {"choices": [], "usage": usage})]
        body = "".join(f"data: {line}\n\n" for line in (*lines, "[DONE]")).encode()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@contextmanager
def served(answers: Mapping[str, str], share: float) -> Iterator[Rival]:
    """The server, as long as it is asked."""
    server = Rival(answers, share)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def allowed(deps: Dependencies, tenant: str, url: str) -> Dependencies:
    """The workspace, whose host has registered the server for the tenant, and whose tenant lets its data be sent there."""
    initialise(deps, _HOST, FIRST_PEOPLE)
    deps = replace(deps, host=_HOST)
    prices = {"input_price": INPUT_PRICE, "output_price": OUTPUT_PRICE}
    made = Endpoint(name=NAME, url=url, region="this machine (a benchmark)", private=True, **prices)
    add_endpoint(deps, act_as(deps, _HOST, "admin"), made, (tenant,))
    set_policy(deps, act_as(deps, tenant, "admin"), TrafficPolicy(endpoints=(NAME,)))
    return deps
