"""What a tenant's work stores: counted once an artifact, and refused beyond the tenant's quota; and the files that it uploads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from pydantic import AfterValidator, Field

from tailorbird.crypto.anchored_rows import storage_group
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.errors import Corrupt, NotFound, TailorbirdError
from tailorbird.domain.identity import Storage
from tailorbird.domain.value import Digest, Value
from tailorbird.ledger.artifacts import ArtifactStore, StorageQuota
from tailorbird.objective import OBJECTIVE_FILE
from tailorbird.system.files import bytes_below, private_folder
from tailorbird.usecases.anchored_rows import demand_anchored
from tailorbird.usecases.audit_events import record
from tailorbird.usecases.dependencies import Actor, Dependencies

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
#: A larger artifact is no manifest of others, and is not searched for names.
_LARGEST_MANIFEST = 2**24


@contextmanager
def storing(deps: Dependencies, tenant: str, *, bounded: bool = True) -> Iterator[tuple[ArtifactStore, StorageQuota]]:
    """The artifact store for a piece of work of ``tenant``, and what counts it; what was put is in the record in the end. Without
    ``bounded`` nothing is refused.

    Raises Exhausted (``quota_storage``) where the quota is used up before it begins.
    """
    quota = _quota(deps, tenant, bounded=bounded)
    quota.require(0)
    try:
        yield deps.artifacts.counted(quota), quota
        quota.enter_rest(bounded=True)
    except BaseException:
        with suppress(TailorbirdError):  # work that ended badly has stored what it has stored
            quota.enter_rest(bounded=False)
        raise


def _quota(deps: Dependencies, tenant: str, *, bounded: bool = True) -> StorageQuota:
    with deps.ledger.system(write=False) as system:
        limit = system.tenants.get(tenant).limits.storage_bytes if bounded else None
    return StorageQuota(deps.ledger, tenant, limit, stored_by(deps, tenant, working=limit is not None))


def require_room(deps: Dependencies, tenant: str, ahead: int) -> None:
    """Raises Exhausted (``quota_storage``) where ``ahead`` bytes more would pass the tenant's quota."""
    _quota(deps, tenant).require(ahead)


def stored_by(deps: Dependencies, tenant: str, *, working: bool = True) -> Storage:
    """What a tenant has stored; with ``working``, the files of its unfinished work in the workspace too: checkpoints of its runs, what its
    indexes keep."""
    with deps.ledger.work(tenant, write=False) as work:
        total = work.storage.total()
        demand_anchored(work, storage_group(tenant, total))
        runs = work.runs.ids() if working else ()
    folders = [deps.indexes(tenant), *(deps.runs / run for run in runs)] if working else []
    return total.model_copy(update={"working_bytes": sum(map(bytes_below, filter(Path.is_dir, folders)))})


def reached(store: ArtifactStore, named: Iterable[Digest]) -> set[Digest]:
    """Artifacts that are named, or that an artifact among them names: a tree names its files."""
    found: set[Digest] = set()
    ahead = [digest for digest in named if store.exists(digest)]
    while ahead:
        digest = ahead.pop()
        if digest in found:
            continue
        found.add(digest)
        with suppress(Corrupt, NotFound):
            data = store.get(digest) if (store.size(digest) or 0) <= _LARGEST_MANIFEST else b""
            if data[:1] == b"{":
                ahead += filter(store.exists, _DIGEST.findall(data.decode("utf-8", errors="ignore")))
    return found


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
    with storing(deps, actor.tenant) as (store, _):
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
