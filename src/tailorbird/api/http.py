"""HTTP calls: their context, bodies and parameters, with their description in OpenAPI."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

import pydantic_core
from fastapi import Depends, Request
from fastapi.params import Depends as Dependency
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ValidationError
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tailorbird.api.metrics import Metrics
from tailorbird.domain.errors import InvalidInput, TooLarge
from tailorbird.serving.answers import AnswerPiece
from tailorbird.system.request_id import new_request_id
from tailorbird.text.words import nearest

T = TypeVar("T")

_SESSION = HTTPBearer(
    scheme_name="session", auto_error=False, description="Secret of a session: tbs_<id>_<secret>. See POST /api/sessions."
)
_API_KEY = HTTPBearer(scheme_name="API key", auto_error=False, description="Secret of an API key: tb_<id>_<secret>.")

#: What a route declares that needs a session, or an API key. They only describe; the routes ask by themselves.
SESSION: list[Dependency] = [Depends(_SESSION)]
API_KEY: list[Dependency] = [Depends(_API_KEY)]


def parameters(asks: type[BaseModel], names: Collection[str], place: str) -> list[dict[str, Any]]:
    """The fields ``names`` of ``asks`` as parameters in ``place`` (``path`` or ``query``)."""
    schema = inlined(asks)
    return [
        {"name": name, "in": place, "required": name in schema.get("required", ()), "schema": _as_text(schema["properties"][name])}
        for name in asks.model_fields
        if name in names
    ]


def json_body(asks: type[BaseModel], names: Collection[str] | None = None) -> dict[str, Any]:
    """The fields ``names`` (default: all) of ``asks`` as a JSON body, which may be left out where no field is required."""
    schema = inlined(asks)
    wanted = asks.model_fields if names is None else names
    schema["properties"] = {name: field for name, field in schema["properties"].items() if name in wanted}
    schema["required"] = [name for name in schema.get("required", ()) if name in wanted]
    return {"required": bool(schema["required"]), "content": {"application/json": {"schema": schema}}}


def inlined(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of ``model`` with every definition in the place where it is used: a route cannot add to those of the application."""
    schema = _schema(model)
    return {key: _inline(value, schema.get("$defs", {})) for key, value in schema.items() if key != "$defs"}


@cache
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    """Made once: a model is asked for by its path, its query and its body."""
    return model.model_json_schema()


def _inline(part: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(part, list):
        return [_inline(item, definitions) for item in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        return _inline(definitions[part["$ref"].rpartition("/")[2]], definitions)
    # A set that names something twice is taken: it is the same set.
    return {key: _inline(value, definitions) for key, value in part.items() if not (key == "uniqueItems" and value is True)}


def _as_text(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter that is not given is left out: there is no null in a URL."""
    kinds: list[dict[str, Any]] = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if not kinds:
        return schema
    (kind,) = kinds
    return kind | {key: schema[key] for key in ("title", "description") if key in schema}


class EngineShare:
    """The engine of one gateway. Touched only from the event loop."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._at = now()
        self._waiting = 0
        self._each = 0.0

    def enter(self) -> float:
        """Somebody begins to wait; what is returned is to be given back to ``leave``."""
        self._advance()
        self._waiting += 1
        return self._each

    def leave(self, entered: float) -> float:
        """They have waited: their share of the engine since then, in seconds."""
        self._advance()
        self._waiting -= 1
        return self._each - entered

    def _advance(self) -> None:
        now = self._now()
        if self._waiting:
            self._each += (now - self._at) / self._waiting
        self._at = now


#: A browser that was here once by HTTPS does not come by HTTP for a year (RFC 6797).
_ONLY_ENCRYPTED = "max-age=31536000"
#: Where a call's scope says for whom it is, once the caller is known.
TENANT = "tailorbird.tenant"


@dataclass
class RequestContext:
    """``engine_seconds`` is the time that passed while the engine was being waited for, ``engine_share`` the part of it that was not
    somebody else's too."""

    id: str = field(default_factory=new_request_id)
    started: float = field(default_factory=time.perf_counter)
    engine_seconds: float = 0.0
    engine_share: float = 0.0
    _waits: int = 0
    _since: float = 0.0

    @property
    def seconds(self) -> float:
        """Time since the call came in."""
        return time.perf_counter() - self.started

    @property
    def overhead_seconds(self) -> float:
        """Time since the call came in that was not spent waiting for the engine."""
        return self.seconds - self.engine_seconds

    async def timed(self, pieces: AsyncGenerator[AnswerPiece, None], engine: EngineShare) -> AsyncGenerator[AnswerPiece, None]:
        """``pieces`` as they come, with the waiting counted as the engine's."""
        try:
            while True:
                try:
                    with self._waiting(engine):
                        piece = await anext(pieces)
                except StopAsyncIteration:
                    return
                yield piece
        finally:
            await pieces.aclose()

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Time within the block is the engine's, and nobody's share of it: the release is loaded for all who will ask."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.engine_seconds += time.perf_counter() - started

    @contextmanager
    def _waiting(self, engine: EngineShare) -> Iterator[None]:
        """A call may wait for several answers at once: its seconds pass once."""
        asked, entered = time.perf_counter(), engine.enter()
        self._waits += 1
        if self._waits == 1:
            self._since = asked
        try:
            yield
        finally:
            self._waits -= 1
            self.engine_share += engine.leave(entered)
            if not self._waits:
                self.engine_seconds += time.perf_counter() - self._since


def current_call(request: Request) -> RequestContext:
    """The call that ``request`` belongs to."""
    call: RequestContext = request.scope["tailorbird.call"]
    return call


class RequestObserver:
    """Middleware: gives every HTTP call an id, tells it in the response, and counts it when it has ended."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes everything but HTTP through untouched."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        call = scope["tailorbird.call"] = RequestContext()
        status = 500

        async def tell(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-tailorbird-request-id"] = headers["x-request-id"] = call.id
                if scope.get("scheme") == "https":
                    headers["strict-transport-security"] = _ONLY_ENCRYPTED
                headers["x-tailorbird-overhead-ms"] = f"{1000 * call.overhead_seconds:.2f}"
            await send(message)

        try:
            await self._app(scope, receive, tell)
        finally:
            route = getattr(scope.get("route"), "path", "unmatched")
            self._metrics.count(route, scope["method"], status, call.seconds, call.overhead_seconds)


class ClosingStream(StreamingResponse):
    """A streaming response that closes its generator at once when the client leaves, not when the garbage collector finds it."""

    def __init__(self, first: str, rest: AsyncGenerator[str, None], media_type: str, headers: Mapping[str, str] | None = None) -> None:
        """``first`` was already taken from ``rest``: a generator that has begun runs its clean-up when it is closed, another does not."""

        async def chained() -> AsyncGenerator[str, None]:
            yield first
            async for piece in rest:
                yield piece

        self._rest, self._whole = rest, chained()
        super().__init__(self._whole, media_type=media_type, headers=headers)

    async def stream_response(self, send: Send) -> None:
        """Sends every piece; closes the generator however that ends."""
        async with aclosing(self._rest), aclosing(self._whole):
            await super().stream_response(send)


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The result of ``work``. When the client leaves first, ``work`` is cancelled and ClientDisconnect raised.

    The body of ``request`` must have been read.
    """

    async def until_gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(until_gone())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


#: Bytes of a request's body at most, where a route does not say otherwise.
LARGEST_BODY = 2**20


async def read_body(request: Request, largest: int = LARGEST_BODY) -> bytes:
    """The body. Raises TooLarge (413) as soon as more than ``largest`` bytes are announced or have come."""
    read = bytearray()
    async for part in stream_body(request, largest):
        read += part
    return bytes(read)


async def stream_body(request: Request, largest: int) -> AsyncGenerator[bytes, None]:
    """The body's parts as they come. Raises TooLarge as ``read_body`` does."""
    announced = request.headers.get("content-length", "")
    too_large = TooLarge(f"the body has more than {largest} bytes", "send less at once")
    if announced.isdigit() and int(announced) > largest:
        raise too_large
    count = 0
    async for part in request.stream():
        count += len(part)
        if count > largest:
            raise too_large
        yield part


def require_type(request: Request, wanted: str) -> None:
    """Raises InvalidInput unless the body is said to be of the media type ``wanted``.

    A browser sends no such body to another site without asking that site first, which is never granted here.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != wanted:
        raise InvalidInput(f"the body is not said to be {wanted}", f"send the header: content-type: {wanted}")


M = TypeVar("M", bound=BaseModel)

#: Values of a body of the control plane at most: a submission of as many files as may be has a sixth.
MOST_VALUES = 60_000

#: Characters that a database does not keep: U+0000, and halves of surrogate pairs.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_LONG = 2**63


def read_object(body: bytes, example: str) -> dict[str, Any]:
    """The JSON object in ``body``. Raises InvalidInput; ``example`` shows how one looks."""
    try:
        given = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidInput(f"the body is not JSON: {error}", "send one JSON object in UTF-8", code="invalid_json") from None
    if not isinstance(given, dict):
        raise InvalidInput("the body is not a JSON object", f"send an object: {example}", code="invalid_json")
    return given


def read_json_value(kind: type[M], given: Mapping[str, Any]) -> M:
    """``given``, which came as JSON, as a ``kind``: taken as it is, a string is no number. Raises InvalidInput."""
    refuse_unstorable(given)
    try:
        return kind.model_validate_json(json.dumps(given), strict=True)
    except ValidationError as error:
        raise explained(error, kind.model_fields) from None


def read_text_value(kind: type[M], given: Mapping[str, str]) -> M:
    """``given``, which came as text, as a ``kind``. Raises InvalidInput."""
    refuse_unstorable(given)
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise explained(error, kind.model_fields) from None


def refuse_unstorable(given: Any) -> None:
    """Raises InvalidInput when a text anywhere in ``given`` cannot be kept, an integer has more than 64 bits, or there are more values than
    ``MOST_VALUES``: everybody else waits while they are looked at."""
    ahead: list[tuple[Any, str]] = [(given, "")]
    count = 0
    while ahead:
        value, name = ahead.pop()
        if isinstance(value, Mapping | list):
            count += len(value)
            if count > MOST_VALUES:
                raise InvalidInput(f"more than {MOST_VALUES:,} values", "send less at once", param=name or None)
        if isinstance(value, Mapping):
            for key, inner in value.items():
                _refuse_one(key, name)
                ahead.append((inner, f"{name}.{key}"[:128] if name else str(key)[:128]))
        elif isinstance(value, list):
            ahead += [(inner, name) for inner in value]
        else:
            _refuse_one(value, name)


def _refuse_one(value: Any, name: str) -> None:
    if isinstance(value, str) and _UNSTORABLE.search(value):
        raise _refused(name, "text with a null character or half a surrogate pair")
    if isinstance(value, int) and not -_LONG <= value < _LONG:
        raise _refused(name, "an integer of more than 64 bits")


def explained(error: ValidationError, known: Iterable[str]) -> InvalidInput:
    """The first fault that pydantic found, in our words; ``known`` are the parameters there are."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    param = ".".join(str(part) for part in first["loc"])[:128]
    if first["type"] == "extra_forbidden":
        return unknown(param, known)
    code = "missing_parameter" if first["type"] == "missing" else "invalid_value"
    said = first["msg"].removeprefix("Value error, ")
    return InvalidInput(f"{param}: {said}" if param else said, "correct this parameter and send the request again", code=code, param=param)


def unknown(param: str, known: Iterable[str]) -> InvalidInput:
    """There is no such parameter."""
    names = tuple(known)
    near = nearest(param, names)
    hint = f"did you mean {near}?" if near else f"these are understood: {', '.join(names) or 'none'}"
    return InvalidInput(f"unknown parameter {param}", hint, code="unknown_parameter", param=param)


def _refused(name: str, what: str) -> InvalidInput:
    return InvalidInput(f"{name or 'the request'}: {what}", "leave it out", code="invalid_value", param=name[:128] or None)
