"""Files that came before the objective that names them: whose they are.

Artifacts are kept once, whoever sent them, so a digest alone must open nothing: each tenant has its own list of what it sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from pydantic import AfterValidator, Field

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.errors import NotFound
from tailorbird.domain.value import Digest, Value
from tailorbird.objective import OBJECTIVE_FILE
from tailorbird.system.files import private_folder
from tailorbird.usecases.audit_events import record
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.storage_quota import storing

#: Folders above a file at most: each is made before the file is.
MOST_LEVELS = 32


def _plain(path: str) -> str:
    """A relative path with one spelling, that leads nowhere else."""
    pieces = path.split("/")
    if len(pieces) > MOST_LEVELS + 1:
        raise ValueError(f"a file lies at most {MOST_LEVELS} folders deep")
    if (
        not all(0 < len(part.encode("utf-8", "surrogatepass")) <= 255 and part not in (".", "..") for part in pieces)
        or set(path) & {"\\", "\0"}
        or pieces[0] == OBJECTIVE_FILE
    ):
        raise ValueError("a file is named by a plain relative path")
    return path


RelativePath = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_plain)]


class Stored(Value):
    """A file that was stored: its name from now on, and its size."""

    digest: Digest
    bytes: Annotated[int, Field(ge=0)]


class Upload(Value):
    """That a tenant sent a file: kept among its records, and found by the digest of this value."""

    file: Digest


def uploads_folder(deps: Dependencies, tenant: str) -> Path:
    """Where files that a tenant uploads lie until they are whole: in memory, where the workspace encrypts and the system offers that."""
    return (deps.in_the_clear or deps.workspace) / "uploads" / tenant


@contextmanager
def readable_upload(deps: Dependencies, file: Digest, name: str = "file") -> Iterator[Path]:
    """An uploaded file as a file of this machine, for readers that need one; it is gone at the end. Raises NotFound, Corrupt."""
    with TemporaryDirectory(prefix="tailorbird-") as folder:
        place = Path(folder) / name
        private_folder(place.parent)
        deps.artifacts.save(file, place)
        yield place


def keep_upload(deps: Dependencies, actor: Actor, folder: Path) -> Stored:
    """Stores the one file in ``folder``, without holding it in memory, and notes that the actor's tenant sent it.

    Raises Exhausted (the tenant's quota of storage).
    """
    (path,) = folder.iterdir()
    deps = deps.for_tenant(actor.tenant)
    with storing(deps, actor.tenant) as store:
        stored = Stored(digest=store.tree(store.put_tree(folder))[path.name], bytes=path.stat().st_size)
    with deps.ledger.work(actor.tenant) as work:
        work.records.put(Upload(file=stored.digest))
        record(work, "file.uploaded", actor.name, stored.digest, deps.clock.now(), {"bytes": stored.bytes})
    return stored


def require_uploaded(deps: Dependencies, tenant: str, files: Mapping[str, Digest]) -> None:
    """Raises NotFound for the first of ``files`` (path to digest) that this tenant never sent, whether or not another one has."""
    with deps.ledger.work(tenant, write=False) as work:
        for path, digest in files.items():
            try:
                work.records.get(Upload, digest_of(Upload(file=digest)))
            except NotFound:
                raise NotFound(
                    f"{path} was not uploaded", "upload each file with POST /api/artifacts first", code="upload_missing"
                ) from None
