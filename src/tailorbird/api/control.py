"""Routes below ``/api``: sessions, uploads, one route per use case; and ``/healthz`` and ``/readyz``."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, ParamSpec, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from tailorbird.api.authentication import LOG_IN, LOG_OUT, OWN, UPLOAD, Authenticator, shows_api_key
from tailorbird.api.errors import error_answers
from tailorbird.api.http import (
    SESSION,
    TENANT,
    json_body,
    parameters,
    read_body,
    read_json_value,
    read_object,
    read_text_value,
    require_type,
    stream_body,
    unknown,
)
from tailorbird.auth import ROLES_FOR
from tailorbird.domain.errors import Exhausted, InvalidInput, TailorbirdError, Unauthenticated, Unavailable
from tailorbird.domain.identity import Identity, Login, Role, Signature
from tailorbird.domain.value import Value
from tailorbird.serving.reconciler import Reconciler
from tailorbird.system.background_loop import Rounds
from tailorbird.system.files import clear_stale, private_folder
from tailorbird.usecases import Actor, Dependencies
from tailorbird.usecases.audit_events import permit
from tailorbird.usecases.maintenance.audit import Notice
from tailorbird.usecases.maintenance.health import WorkspaceHealth, warnings_for
from tailorbird.usecases.registry import AnyUseCase, perform_for_program, perform_request, use_cases
from tailorbird.usecases.sessions import LoginEntry, actor_of, end_session
from tailorbird.usecases.storage_quota import Stored, keep_upload, require_room, uploads_folder

P = ParamSpec("P")
T = TypeVar("T")

#: Threads of the control plane, for which no other part of the server waits: those in which calls are worked on, and those that look who
#: calls, log somebody in and take the parts of an upload, so that long calls keep nobody outside.
_AT_ONCE, _SHORT = 8, 4
#: Calls of one tenant that are worked on at once, and that wait for their turn.
_AT_ONCE_EACH, _WAITING_EACH = 3, 64
_LARGEST_LOGIN = 2**14


class LoginRequest(Value):
    """A login, signed for the purpose ``login``."""

    login: Login
    signature: Signature


class LoginResponse(Value):
    """A session's secret, which is told this once, and whose session it is."""

    secret: str
    expires_at: datetime
    identity: Identity


@dataclass
class _TenantQueue:
    """The turns of one tenant; ``calls`` have one, or wait for one."""

    turns: asyncio.Semaphore
    calls: int = 0


class TenantTurns:
    """At most ``most`` calls of a tenant are worked on at once, and ``waiting`` more wait. Touched only from the event loop."""

    def __init__(self, most: int, waiting: int) -> None:
        self._most, self._waiting = most, waiting
        self._queues: dict[str, _TenantQueue] = {}

    @asynccontextmanager
    async def turn(self, tenant: str) -> AsyncIterator[None]:
        """Waits for a turn of ``tenant``. Raises Exhausted (429) where too many of its calls wait already."""
        queue = self._queues.setdefault(tenant, _TenantQueue(asyncio.Semaphore(self._most)))
        if queue.calls >= self._most + self._waiting:
            message = f"{queue.calls} calls of {tenant} are under way or waiting"
            raise Exhausted(message, "wait until some of them have ended", code="calls_at_once", retry_after=1.0)
        queue.calls += 1
        try:
            async with queue.turns:
                yield
        finally:
            queue.calls -= 1
            if not queue.calls:
                del self._queues[tenant]


@dataclass(frozen=True)
class SessionActors:
    """Finds the actor of a request, and does what blocks in threads of its own."""

    entrance: LoginEntry
    threads: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="control"))
    short: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_SHORT, thread_name_prefix="session"))
    turns: TenantTurns = field(default_factory=lambda: TenantTurns(_AT_ONCE_EACH, _WAITING_EACH))

    @property
    def deps(self) -> Dependencies:
        """The opened ports."""
        return self.entrance.deps

    async def actor(self, request: Request) -> Actor:
        """Actor of the session that ``request`` shows. Raises Unauthenticated."""
        actor = await self.run(actor_of, self.deps, secret_of(request))
        request.scope[TENANT] = actor.tenant
        return actor

    async def run(self, do: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
        """The result of ``do``, which may block for a moment."""
        return await asyncio.get_running_loop().run_in_executor(self.short, lambda: do(*given, **named))

    async def run_for(self, tenant: str, do: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
        """The result of ``do``, which may take long, in the turn of ``tenant``. Raises Exhausted where too many of its calls wait."""
        async with self.turns.turn(tenant):
            return await asyncio.get_running_loop().run_in_executor(self.threads, lambda: do(*given, **named))


def session_routes(sessions: SessionActors) -> APIRouter:
    """Logging in and logging out."""
    router = APIRouter(tags=["session"])

    @router.post(
        LOG_IN[1],
        operation_id="session.open",
        summary="Log in with an identity's key.",
        description="Opens a session for whoever signs the login with the key of an identity; the secret is told this once. The key never "
        "leaves its owner.",
        response_model=LoginResponse,
        responses=error_answers(400, 401, 413, 429, 500, 503),
        openapi_extra={"requestBody": json_body(LoginRequest)},
    )
    async def log_in(request: Request) -> Response:
        address = request.client.host if request.client else ""
        body = await read_body(request, _LARGEST_LOGIN)
        require_type(request, "application/json")
        asked = read_json_value(LoginRequest, read_object(body, '{"login": {...}, "signature": {...}}'))
        for at, param in ((asked.login.at, "login.at"), (asked.signature.at, "signature.at")):
            if at.utcoffset() is None:
                raise InvalidInput(f"{param} has no time zone", "write times as 2026-01-31T12:00:00Z", code="invalid_value", param=param)

        def open_one() -> LoginResponse:
            session, secret = sessions.entrance.open(asked.login, asked.signature, address)
            return LoginResponse(secret=secret, expires_at=session.expires_at, identity=actor_of(sessions.deps, secret).identity)

        return answer_with(await sessions.run(open_one))

    @router.delete(
        LOG_OUT[1],
        operation_id="session.end",
        summary="End this session.",
        description="The secret is worth nothing from then on.",
        status_code=204,
        responses=error_answers(401, 403, 500, 503),
        dependencies=SESSION,
    )
    async def log_out(request: Request) -> Response:
        await sessions.run(end_session, sessions.deps, secret_of(request))
        return Response(status_code=204)

    return router


def answer_with(value: Value) -> Response:
    """``value`` as a JSON answer that nobody on the way keeps."""
    return Response(value.model_dump_json(), media_type="application/json", headers={"cache-control": "no-store"})


def secret_of(request: Request) -> str:
    """The session's secret that ``request`` shows. Raises as ``Sessions.actor``."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise Unauthenticated("no session was shown", "log in at POST /api/sessions, then send: authorization: Bearer tbs_...")
    return secret.strip()


#: Bytes of a file at most.
LARGEST_FILE = 2**30
#: Uploads of one tenant at once, which its quota counts when they are whole; and those that wait.
_UPLOADS_EACH, _UPLOADS_WAITING = 4, 64
#: Bytes that are gathered before they are written.
_PART = 2**20


def artifact_routes(sessions: SessionActors, largest: int = LARGEST_FILE) -> APIRouter:
    """The route; it takes files of ``largest`` bytes at most."""
    router = APIRouter(tags=["artifact"])
    deps = sessions.deps
    uploads = TenantTurns(_UPLOADS_EACH, _UPLOADS_WAITING)

    @router.post(
        UPLOAD[1],
        operation_id="artifact.put",
        summary="Upload a data file.",
        description="Takes the bytes of one file and answers with their digest, by which a submission (`run.submit`) names it.",
        response_model=Stored,
        responses=error_answers(400, 401, 403, 413, 429, 500, 503),
        dependencies=SESSION,
        openapi_extra={"requestBody": _BODY},
    )
    async def upload(request: Request) -> Response:
        actor = await sessions.actor(request)
        await sessions.run(permit, deps, actor, OWN[UPLOAD], "artifact.put")
        require_type(request, "application/octet-stream")
        async with uploads.turn(actor.tenant):
            # What the caller says the body has; what comes is counted once it is here.
            length = request.headers.get("content-length", "")
            ahead = int(length) if length.isascii() and length.isdecimal() and len(length) < 20 else 0
            await sessions.run(require_room, deps, actor.tenant, ahead)
            folder = await sessions.run(_make_folder, uploads_folder(deps, actor.tenant))
            try:
                gathered = bytearray()
                async with aclosing(stream_body(request, largest)) as body:
                    async for part in body:
                        gathered += part
                        if len(gathered) >= _PART:
                            await sessions.run(_append, folder / "file", bytes(gathered))
                            gathered.clear()
                await sessions.run(_append, folder / "file", bytes(gathered))
                return answer_with(await sessions.run_for(actor.tenant, keep_upload, deps, actor, folder))
            finally:
                await sessions.run(shutil.rmtree, folder, ignore_errors=True)

    return router


def _append(path: Path, data: bytes) -> None:
    with _storing(), path.open("ab") as file:
        file.write(data)


def _make_folder(uploads: Path) -> Path:
    """A folder beside the artifacts' own place, which has room for them."""
    with _storing():
        private_folder(uploads)
        clear_stale(uploads.iterdir())
        return Path(mkdtemp(dir=uploads))


@contextmanager
def _storing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"the file cannot be kept: {error.strerror}"
        raise Unavailable(message, "the operator makes room in the workspace", code="upload_failed") from None


_BODY: dict[str, Any] = {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


#: Bytes of a request at most: an objective's text (a mebibyte, escaped) and the digests of many files.
_LARGEST_REQUEST = 2**22


def control_routes(entrance: LoginEntry, largest_upload: int = LARGEST_FILE) -> APIRouter:
    """All routes below ``/api``. Errors leave as exceptions of our tree (see ``errors.py``)."""
    router, sessions = APIRouter(), SessionActors(entrance)
    programs = Authenticator(sessions.deps.ledger, sessions.deps.clock)
    router.include_router(session_routes(sessions))
    router.include_router(artifact_routes(sessions, largest_upload))
    for use_case in use_cases():
        router.add_api_route(use_case.path, _endpoint(sessions, programs, use_case), **_described(use_case))
    return router


def _endpoint(sessions: SessionActors, programs: Authenticator, use_case: AnyUseCase) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        if use_case.scope is not None and shows_api_key(request):
            key = await programs(request, use_case.scope)
            wanted = await _read(use_case, request)
            return answer_with(await sessions.run_for(key.tenant, perform_for_program, sessions.deps, key, use_case, wanted))
        actor = await sessions.actor(request)
        wanted = await _read(use_case, request)
        return answer_with(await sessions.run_for(actor.tenant, perform_request, sessions.deps, actor, use_case, wanted))

    return endpoint


async def _read(use_case: AnyUseCase, request: Request) -> Value:
    """The request, from path, query and body; an empty body has no fields. Raises InvalidInput (unknown, or given twice), TooLarge."""
    known = [name for name in use_case.request.model_fields if name not in request.path_params]
    in_query, given = known if use_case.method == "GET" else [], dict[str, str]()
    for name, value in request.query_params.multi_items():
        if name not in in_query:
            raise unknown(name[:128], in_query)
        if name in given:
            raise InvalidInput(f"{name} is given twice", "give it once", code="invalid_value", param=name)
        given[name] = value
    if use_case.method == "GET":
        return read_text_value(use_case.request, given | request.path_params)
    fields, body = dict[str, Any](), await read_body(request, _LARGEST_REQUEST)
    if body:
        require_type(request, "application/json")
        fields = read_object(body, "{...}, or nothing where no parameter is needed")
    for name in fields.keys() & request.path_params.keys():
        raise unknown(name, known)
    return read_json_value(use_case.request, fields | request.path_params)


def _described(use_case: AnyUseCase) -> dict[str, Any]:
    """The route in OpenAPI: what is taken and answered, as the values themselves say, and who may ask."""

    def first(kind: type[Value]) -> str:
        """The first paragraph of what a value says of itself, on one line and without marks of code."""
        return " ".join((kind.__doc__ or "").strip().partition("\n\n")[0].replace("``", "`").split())

    taken = f"Takes: {first(use_case.request)} " if use_case.request.__doc__ else ""
    allowed = ROLES_FOR[use_case.action]
    who = "anybody with a session" if allowed == frozenset(Role) else ", ".join(sorted(role.value for role in allowed))
    programs = f"; programs with a key of the scope {use_case.scope.value}" if use_case.scope else ""
    in_path = use_case.in_path
    others = [name for name in use_case.request.model_fields if name not in in_path]
    extra: dict[str, Any] = {"parameters": parameters(use_case.request, in_path, "path")}
    if use_case.method == "GET":
        extra["parameters"] += parameters(use_case.request, others, "query")
    elif others:
        extra["requestBody"] = json_body(use_case.request, others)
    names = in_path or use_case.method == "POST" or any(field.is_required() for field in use_case.request.model_fields.values())
    missing = (404,) if names else ()
    changing = (409, 413) if use_case.method == "POST" else (409,) if in_path else ()
    return {
        "methods": [use_case.method],
        "operation_id": use_case.name,
        "name": use_case.name,
        "summary": use_case.summary,
        "description": f"{taken}Answers: {first(use_case.response)} Allowed for: {who}{programs}.",
        "tags": [use_case.name.partition(".")[0]],
        "response_model": use_case.response,
        "responses": error_answers(400, 401, 403, *missing, *changing, 429, 500, 503),
        "dependencies": SESSION,
        "openapi_extra": extra,
    }


#: What an admin reads of tenants and people stays in no cache.
_NOT_KEPT = {"cache-control": "no-store"}


def health_routes(
    deployment: Reconciler, condition: Callable[[], WorkspaceHealth], entrance: LoginEntry, loops: Sequence[Rounds] = ()
) -> APIRouter:
    """The two routes; neither needs a session. ``condition`` is what was last seen, and answers at once; ``loops`` are those of the
    gateway, which is not ready while one of them fails."""
    router, sessions = APIRouter(), SessionActors(entrance)

    async def warnings(request: Request, notices: Sequence[Notice]) -> list[dict[str, Any]]:
        """As who asks may read them. Who shows no session waits for nothing."""
        reader = None
        if "authorization" in request.headers and not shows_api_key(request):
            with suppress(TailorbirdError):
                reader = (await sessions.actor(request)).identity
        return [warning.model_dump(mode="json", exclude_defaults=True) for warning in warnings_for(sessions.deps, notices, reader)]

    @router.get(
        "/healthz",
        summary="Is the process up?",
        description="Says so as long as the process answers, with code and count of the warnings that were seen last. Needs no session; an "
        "admin's session also reads their texts, which may name tenants and people.",
    )
    async def healthz(request: Request, response: Response) -> dict[str, Any]:
        response.headers.update(_NOT_KEPT)
        return {"status": "up", "warnings": await warnings(request, condition().notices)}

    not_yet: dict[int | str, dict[str, Any]] = {
        503: {"description": "Not yet; the body says what is missing.", "content": {"application/json": {}}}
    }

    @router.get(
        "/readyz",
        summary="Does every public name answer as the record says?",
        description="503 until the record and its log can be written, the engine answers and every name is loaded, and while work in the "
        "background fails again and again (``failing`` names it); warnings stop nothing.",
        responses=not_yet,
    )
    async def readyz(request: Request) -> JSONResponse:
        found, seen = deployment.readiness(), condition()
        failing = [loop.name for loop in loops if loop.is_failing]
        ready = found.ready and seen.writable and not failing
        told = {
            "ready": ready,
            "ledger": found.ledger and seen.writable,
            "engine": found.engine,
            "aliases": {"live": found.live, "behind": found.behind},
            "failing": failing,
            "warnings": await warnings(request, seen.notices),
        }
        return JSONResponse(told, status_code=200 if ready else 503, headers=_NOT_KEPT)

    return router
