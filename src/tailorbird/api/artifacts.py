"""``POST /api/artifacts``: upload of a data file before the objective that names it is submitted."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from fastapi import APIRouter, Request, Response

from tailorbird.api.authentication import OWN, UPLOAD
from tailorbird.api.errors import error_answers
from tailorbird.api.openapi import SESSION
from tailorbird.api.request_context import require_type, stream_body
from tailorbird.api.sessions import SessionActors, TenantTurns, answer_with
from tailorbird.domain.errors import Unavailable
from tailorbird.system.files import clear_stale, private_folder
from tailorbird.usecases.audit_events import permit
from tailorbird.usecases.storage_quota import require_room
from tailorbird.usecases.uploads import Stored, keep_upload, uploads_folder

#: Bytes of a file at most.
LARGEST_FILE = 2**30
#: Uploads of one tenant at once, which its quota counts when they are whole; and those that wait.
_UPLOADS_EACH, _WAITING_EACH = 4, 64
#: Bytes that are gathered before they are written.
_PART = 2**20
_FILE = "file"


def artifact_routes(sessions: SessionActors, largest: int = LARGEST_FILE) -> APIRouter:
    """The route; it takes files of ``largest`` bytes at most."""
    router = APIRouter(tags=["artifact"])
    deps = sessions.deps
    uploads = TenantTurns(_UPLOADS_EACH, _WAITING_EACH)

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
            await sessions.run(require_room, deps, actor.tenant, _declared(request))
            folder = await sessions.run(_make_folder, uploads_folder(deps, actor.tenant))
            try:
                async with aclosing(stream_body(request, largest)) as body:
                    await _write(sessions, body, folder / _FILE)
                return answer_with(await sessions.run_for(actor.tenant, keep_upload, deps, actor, folder))
            finally:
                await sessions.run(shutil.rmtree, folder, ignore_errors=True)

    return router


def _declared(request: Request) -> int:
    """Bytes that the caller says the body has; 0 where it says nothing. What comes is counted once it is here."""
    said = request.headers.get("content-length", "")
    return int(said) if said.isascii() and said.isdecimal() and len(said) < 20 else 0


async def _write(sessions: SessionActors, body: AsyncGenerator[bytes, None], path: Path) -> None:
    gathered = bytearray()
    async for part in body:
        gathered += part
        if len(gathered) >= _PART:
            await sessions.run(_append, path, bytes(gathered))
            gathered.clear()
    await sessions.run(_append, path, bytes(gathered))


def _append(path: Path, data: bytes) -> None:
    try:
        _write_on(path, data)
    except OSError as error:
        raise _no_place(error) from None


def _write_on(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def _make_folder(uploads: Path) -> Path:
    """A folder beside the artifacts' own place, which has room for them."""
    try:
        private_folder(uploads)
        clear_stale(uploads.iterdir())
        return Path(mkdtemp(dir=uploads))
    except OSError as error:
        raise _no_place(error) from None


def _no_place(error: OSError) -> Unavailable:
    return Unavailable(f"the file cannot be kept: {error.strerror}", "the operator makes room in the workspace", code="upload_failed")


_BODY: dict[str, Any] = {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
