"""Client of a hosted model over OpenAI's chat completions: addresses are checked, tries bounded, and the server believed in nothing."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.deployment import believable_usage, most_read, size_of
from tailorbird.domain.endpoint import Endpoint
from tailorbird.domain.errors import AnswerLost, Exhausted, InvalidInput, TailorbirdError, Unavailable
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.integrations.endpoint_transport import AWAITS_CONNECTION, CheckedTransport
from tailorbird.integrations.openai_compatible import TOO_LONG, completion_body
from tailorbird.ports.endpoint import EndpointClient, HostedAnswer, HostedChunk

T = TypeVar("T")

#: Tries of an answer that is waited for, the longest wait between two, and the first where the server names none, in seconds.
_TRIES, _LONGEST_WAIT, _FIRST_WAIT = 5, 60.0, 0.5
#: Seconds to connect.
_CONNECT = 5.0
#: Bytes of an answer beyond which it is broken off, of one line of it, and of a refusal that are read; and pieces of an answer.
_MOST_BYTES, _LINE_BYTES, _REFUSAL_BYTES, _MOST_PIECES = 16 << 20, 256 << 10, 64 << 10, 100_000
#: Pieces of the network that an answer may come in: so many, and more for what it carries. Each takes some fifty microseconds.
_FEW_READS, _READS_EACH, _BYTES_EACH = 4096, 4, 256
#: Choices of an event: one is asked for.
_MOST_CHOICES = 8
#: What a fingerprint looks like; of others a digest is told, for they may be anything.
_FINGERPRINT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
#: Letters of a key from which on a name that holds it quotes it.
_SECRET = 8
#: What a line of a stream holds that carries data.
_DATA = re.compile(rb"^data:(.*)$", re.MULTILINE)
#: Parameters that some models do not take, and what stands in for them.
_OPTIONAL = {"max_tokens": "max_completion_tokens", "temperature": None, "top_p": None, "seed": None, "stream_options": None}


def open_endpoint(endpoint: Endpoint, model: str, key: Callable[[], str]) -> EndpointClient:
    """A client of ``model`` at ``endpoint``. ``key`` is asked for the secret at each request, so that a new one counts at once."""
    return OpenAiEndpoint(endpoint, model, key)


class OpenAiEndpoint:
    """Implements ``EndpointClient``. The transport is used as it is: no redirect is followed, no cookie kept, nothing unpacked, and neither
    proxies nor credentials of the environment are used."""

    def __init__(self, endpoint: Endpoint, model: str, key: Callable[[], str], first_wait: float = _FIRST_WAIT) -> None:
        self._endpoint = endpoint
        self._model = model
        self._key = key
        self._first_wait = first_wait
        self._untaken: set[str] = set()
        self._lost = (0, 0)
        self._transport = CheckedTransport(private=endpoint.private)
        self._timeout = httpx.Timeout(endpoint.timeout_s, connect=min(_CONNECT, endpoint.timeout_s)).as_dict()

    @property
    def lost(self) -> tuple[int, int]:
        """Tokens, at most, of tries that gave no whole answer; see ``EndpointClient``."""
        return self._lost

    async def answer(self, prompt: Sequence[Message], sampling: Sampling) -> HostedAnswer:
        """One answer; see ``EndpointClient``."""
        again = 0
        while True:
            started = time.perf_counter()
            try:
                return await self._whole(prompt, sampling, started, again)
            except _Passing as passing:
                again += 1
                if again >= _TRIES:
                    raise passing.error from passing
                await asyncio.sleep(min(_LONGEST_WAIT, passing.wait or self._first_wait * 2 ** (again - 1)))

    async def stream(self, prompt: Sequence[Message], sampling: Sampling) -> AsyncGenerator[HostedChunk, None]:
        """One answer, piece by piece; see ``EndpointClient``."""
        try:
            async with aclosing(self._pieces(prompt, sampling)) as pieces:
                async for piece in pieces:
                    yield piece
        except _Passing as passing:
            raise passing.error from passing

    async def close(self) -> None:
        """Closes the connections."""
        await self._transport.aclose()

    async def _whole(self, prompt: Sequence[Message], sampling: Sampling, started: float, again: int) -> HostedAnswer:
        text = ""
        async with aclosing(self._pieces(prompt, sampling)) as pieces:
            async for piece in pieces:
                text += piece.text
        assert piece.finish_reason is not None
        fields = {name: getattr(piece, name) for name in HostedChunk.model_fields if name not in ("text", "written")}
        return HostedAnswer(text=text, latency_ms=(time.perf_counter() - started) * 1000, again=again, **fields)

    async def _pieces(self, prompt: Sequence[Message], sampling: Sampling) -> AsyncGenerator[HostedChunk, None]:
        written, paid, sending = 0, True, _Sending()
        try:
            async with aclosing(self._asked(prompt, sampling, sending)) as pieces:
                async for piece in pieces:
                    written, paid = written + piece.written, piece.finish_reason is None
                    yield piece
        except TimeoutError:
            said = f"has not answered within {self._endpoint.timeout_s:g} s"
            raise _Passing(sending.fault(self._endpoint, said, silent=not (written or sending.waits_here or sending.refused))) from None
        except (httpx.ConnectError, httpx.ConnectTimeout, OSError):
            paid = False
            raise _Passing(_away(self._endpoint, "cannot be reached", silent=True)) from None
        except (httpx.RequestError, httpx.StreamError) as error:
            silent = isinstance(error, httpx.RequestError) and not (written or sending.waits_here or sending.refused)
            raise _Passing(sending.fault(self._endpoint, "cannot be reached, or broke the answer off", silent=silent)) from None
        except _Passing as passing:
            paid = isinstance(passing.error, AnswerLost)
            raise
        except TailorbirdError as error:
            paid = isinstance(error, AnswerLost)
            raise
        finally:
            if paid and sending.begun:
                self._lost = (self._lost[0] + most_read(prompt), self._lost[1] + written)

    async def _asked(self, prompt: Sequence[Message], sampling: Sampling, sending: _Sending) -> AsyncGenerator[HostedChunk, None]:
        """The answer; parameters that the model says it does not take are left out, each once."""
        patience = _Patience(self._endpoint.timeout_s)
        while True:
            # What other requests learn meanwhile counts from the next try on: what is refused now was in this body.
            left_out = frozenset(self._untaken)
            request = self._request(self._body(prompt, sampling, left_out))
            sending.watch(request)
            response = await patience.wait(self._transport.handle_async_request(request))
            sending.begun = True
            try:
                if response.status_code == 200:
                    if response.headers.get("content-type", "").startswith("application/json"):
                        raise _lost(self._endpoint, "answers in one piece, where it is asked to stream", "have its server stream answers")
                    reading = _Reading(self._endpoint, prompt, sampling, request.headers.get("authorization", "").removeprefix("Bearer "))
                    async with aclosing(_lines(response, patience)) as told:
                        async for data in told:
                            if (piece := reading.take(data)) is not None:
                                yield piece
                    yield reading.closing()
                    return
                sending.refused = True
                refusal = _told(await patience.wait(_beginning(response)))
            finally:
                await response.aclose()
            if response.status_code == 400 and refusal.get("code") == "content_filter":
                # Filters that were asked are paid for reading, and tell no counts.
                yield HostedChunk(text="", finish_reason="stop", prompt_tokens=most_read(prompt), refused=True, estimated=True)
                return
            if response.status_code != 400 or (untaken := refusal.get("param")) not in _OPTIONAL or untaken in left_out:
                raise self._refusal(response, refusal)
            self._untaken.add(untaken)

    def _request(self, body: dict[str, Any]) -> httpx.Request:
        secret = self._key()
        headers = {"authorization": f"Bearer {secret}"} if secret else {}
        headers |= {"accept": "text/event-stream", "accept-encoding": "identity", "user-agent": "tailorbird"}
        url = f"{self._endpoint.url}/v1/chat/completions"
        return httpx.Request("POST", url, json=body, headers=headers, extensions={"timeout": self._timeout})

    def _body(self, prompt: Sequence[Message], sampling: Sampling, left_out: frozenset[str]) -> dict[str, Any]:
        messages = [{"role": message.role, "content": message.content} for message in prompt]
        body = completion_body(self._model, messages, sampling)
        for name in left_out:
            value, instead = body.pop(name), _OPTIONAL[name]
            body |= {instead: value} if instead else {}
        return body

    def _refusal(self, response: httpx.Response, told: dict[str, Any]) -> Exception:
        """Error for a refusal. The server's words are not passed on: they may quote the prompt, or the key."""
        status, name = response.status_code, self._endpoint.name
        if status == 429:
            busy = Exhausted(f"the endpoint {name} takes no more requests now", "ask again later, or raise its limit", code="endpoint_busy")
            return _Passing(busy, _retry_after(response))
        if status in (401, 403):
            hint = "set the key that it asks for in the setting endpoint_keys, and look at what it allows"
            return Unavailable(f"the endpoint {name} does not take its key", hint, code="endpoint_refused")
        if status == 404:
            hint = "name a model that the server has, and its address without /v1"
            return InvalidInput(f"the endpoint {name} has no model {self._model}", hint, code="endpoint_model_missing")
        if status in (400, 413, 422):
            if any(sign.decode() in json.dumps(told).lower() for sign in TOO_LONG):
                return InvalidInput("the prompt is longer than the hosted model's context", "shorten the text", code="prompt_too_long")
            hint = "ask in another way, or another model: its log says why"
            return InvalidInput(f"the endpoint {name} does not take this request", hint, code="endpoint_request")
        error = _away(self._endpoint, f"answered with status {status}")
        return _Passing(error, _retry_after(response)) if status >= 500 or status == 408 else error


class _Passing(Exception):
    """A fault that may have passed when it is tried again, after ``wait`` seconds where the server names them."""

    def __init__(self, error: TailorbirdError, wait: float = 0.0) -> None:
        super().__init__(error.message)
        self.error = error
        self.wait = wait


class _Sending:
    """How far the request under way has come. ``begun``: something of it was sent; one that still looks for an address, or waits for a
    connection, costs nothing. ``waits_here``: all connections are in use, and the server is not to blame. ``refused``: it has said no."""

    def __init__(self) -> None:
        self.begun = self.waits_here = self.refused = False

    def watch(self, request: httpx.Request) -> None:
        """From here on that of ``request``."""
        self.begun = self.waits_here = self.refused = False
        request.extensions = {**request.extensions, "trace": self._hear}

    def fault(self, endpoint: Endpoint, what: str, *, silent: bool) -> Unavailable:
        """What is said where no answer comes: the server may be paid for what was sent."""
        return (_lost if self.begun else _away)(endpoint, what, silent=silent)

    async def _hear(self, event: str, _: dict[str, Any]) -> None:
        self.begun = self.begun or event.endswith("send_request_headers.started")
        self.waits_here = event == AWAITS_CONNECTION


class _Patience:
    """Seconds for which the server is waited for in all; the time of whoever reads the answer does not count."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds

    async def wait(self, awaited: Awaitable[T]) -> T:
        """What is awaited. Raises TimeoutError."""
        started = time.monotonic()
        try:
            return await asyncio.wait_for(awaited, self._left)
        finally:
            self._left = max(0.0, self._left - (time.monotonic() - started))


class _Reading:
    """What was read of an answer so far."""

    def __init__(self, endpoint: Endpoint, prompt: Sequence[Message], sampling: Sampling, secret: str) -> None:
        self._endpoint = endpoint
        self._secret = secret
        self._asked = prompt, sampling
        self._written = 0
        self._reason: str | None = None
        self._usage: dict[str, Any] = {}
        self._names = {"model": "", "fingerprint": ""}
        self._refused = False

    def take(self, data: str) -> HostedChunk | None:
        """The piece that ``data`` of the stream hold. Raises _Passing for what is broken."""
        if data == "[DONE]":
            return None
        try:
            return self._event(json.loads(data))
        except (ValueError, TypeError, AttributeError, RecursionError):
            raise _Passing(_lost(self._endpoint, "sent an answer that cannot be read")) from None

    def _event(self, event: dict[str, Any]) -> HostedChunk | None:
        if event.get("error") is not None:
            raise ValueError
        self._names["model"] = self._name(event.get("model")) or self._names["model"]
        self._names["fingerprint"] = _fingerprint(self._name(event.get("system_fingerprint"))) or self._names["fingerprint"]
        self._usage = dict(event.get("usage") or self._usage)
        text, before = "", self._written
        choices = event.get("choices") or ()
        if len(choices) > _MOST_CHOICES:
            raise ValueError
        for choice in choices:
            delta = choice.get("delta") or {}
            self._written += sum(size_of(said) for name, said in delta.items() if isinstance(said, str) and name != "role")
            self._refused = self._refused or bool(_words(delta.get("refusal")))
            self._reason = _words(choice.get("finish_reason")) or self._reason
            text += _words(delta.get("content"))
        written = self._written - before
        return HostedChunk(text=text, written=written, **self._names) if written else None

    def _name(self, given: Any) -> str:
        """A name as the server tells it, cut to what a record holds; none where it quotes the key."""
        name = "".join(letter for letter in given if letter.isprintable()) if isinstance(given, str) else ""
        return "" if len(self._secret) >= _SECRET and self._secret in name else name[:200]

    def closing(self) -> HostedChunk:
        """The last piece. Raises _Passing for a stream that ended too soon."""
        if self._reason is None:
            raise _Passing(_lost(self._endpoint, "broke the answer off"))
        prompt, sampling = self._asked
        usage = believable_usage(self._usage, prompt, self._written, sampling.max_tokens)
        return HostedChunk(
            text="",
            finish_reason="length" if self._reason == "length" else "stop",
            prompt_tokens=usage.prompt,
            completion_tokens=usage.completion,
            estimated=usage.estimated,
            refused=self._refused or self._reason == "content_filter",
            **self._names,
        )


def _fingerprint(name: str) -> str:
    """A fingerprint as it may stand in logs and evidence."""
    return name if not name or _FINGERPRINT.fullmatch(name) else f"digest-{digest_bytes(name.encode())[7:19]}"


def _words(given: Any) -> str:
    """A text of the server, or none. Raises TypeError for anything else, ValueError for half a character, which no record holds."""
    if given is None or given == "":
        return ""
    if not isinstance(given, str):
        raise TypeError
    given.encode()
    return given


async def _lines(response: httpx.Response, patience: _Patience) -> AsyncGenerator[str, None]:
    """What the lines of a stream hold that carry data, as they were sent: one that comes packed may be any size unpacked. Raises
    httpx.StreamError for what is packed, or without end; TimeoutError."""
    if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise httpx.StreamError("packed")
    left, size, pieces, reads, stream = bytearray(), 0, 0, 0, response.aiter_raw()
    while (more := await patience.wait(anext(stream, None))) is not None:
        size, reads, end = size + len(more), reads + 1, more.rfind(b"\n") + 1
        whole, left = (left + more[:end], bytearray(more[end:])) if end else (b"", left + more)
        # Most of what a hostile server sends is dropped here, at the speed of C: everybody waits meanwhile.
        carrying = _DATA.findall(whole)
        pieces += len(carrying)
        most = _FEW_READS + _READS_EACH * pieces + size // _BYTES_EACH
        if size > _MOST_BYTES or len(left) > _LINE_BYTES or pieces > _MOST_PIECES or reads > most:
            raise httpx.StreamError("too long")
        for line in carrying:
            yield line.decode("utf-8", "replace").strip()
    for line in _DATA.findall(left):
        yield line.decode("utf-8", "replace").strip()


async def _beginning(response: httpx.Response) -> bytes:
    read = bytearray()
    async for more in response.aiter_raw():
        read += more
        if len(read) > _REFUSAL_BYTES:
            break
    return bytes(read)


def _told(body: bytes) -> dict[str, Any]:
    """The ``error`` of a refusal; empty where it is none of the protocol."""
    try:
        told = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}
    return {str(name): value for name, value in told.items() if isinstance(value, str)} if isinstance(told, dict) else {}


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the server asks to wait; 0 where it does not say."""
    given = response.headers.get("retry-after", "")
    try:
        return max(0.0, float(given))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(given).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


_HINT = "look whether it is up, and at its timeout: tailorbird endpoint list"


def _away(endpoint: Endpoint, what: str, *, silent: bool = False) -> Unavailable:
    return Unavailable(f"the endpoint {endpoint.name} {what}", _HINT, code="endpoint_unavailable", silent=silent)


def _lost(endpoint: Endpoint, what: str, hint: str = "", *, silent: bool = False) -> AnswerLost:
    return AnswerLost(f"the endpoint {endpoint.name} {what}", hint or _HINT, code="endpoint_unavailable", silent=silent)
