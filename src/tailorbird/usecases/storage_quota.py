"""What a tenant's work stores: counted once an artifact, and refused beyond the tenant's quota.

Bytes lie once in the store, whoever put them; each tenant is charged with what its own work put there. What is ahead is asked for before it
is written, and the sum once more when it is entered in the record. What an erasure makes is counted, and never refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tailorbird.crypto.anchored_rows import storage_group
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.errors import Corrupt, Exhausted, NotFound, TailorbirdError
from tailorbird.domain.quota import Storage
from tailorbird.domain.value import Digest
from tailorbird.ports.artifacts import ArtifactStore, ErasableStore
from tailorbird.ports.ledger import UnitOfWork
from tailorbird.system.files import bytes_below, digest_file
from tailorbird.usecases.anchored_rows import demand_anchored
from tailorbird.usecases.dependencies import Dependencies

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
#: A larger artifact is no manifest of others, and is not searched for names.
_LARGEST_MANIFEST = 2**24


class TenantStore:
    """Implements ``ErasableStore`` for one piece of work of one tenant. ``limit`` is its quota in bytes, None where it has none."""

    def __init__(self, deps: Dependencies, tenant: str, limit: int | None, known: Storage) -> None:
        self._parts = deps
        self._store = deps.artifacts
        self._tenant = tenant
        self._limit = limit
        self._known = known
        self._new: dict[Digest, int] = {}

    def put(self, *deps: bytes | memoryview) -> Digest:
        """As ``ArtifactStore.put``. Raises Exhausted (``quota_storage``)."""
        self._require([(sum(map(len, deps)), lambda: digest_bytes(*deps))])
        return self._counted(self._store.put(*deps))

    def put_tree(self, folder: Path, *, public: bool = False) -> Digest:
        """As ``ArtifactStore.put_tree``. Raises Exhausted (``quota_storage``)."""
        files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        self._require([(path.stat().st_size, lambda path=path: digest_file(path)) for path in files])  # type: ignore[misc]
        tree = self._counted(self._store.put_tree(folder, public=public))
        for digest in self._store.tree(tree).values():
            self._counted(digest)
        return tree

    def require_room(self, ahead: int) -> None:
        """Raises Exhausted (``quota_storage``) where ``ahead`` bytes more would pass the quota."""
        after = self._known.all_bytes + sum(self._new.values()) + ahead
        if self._limit is not None and after > self._limit:
            raise _over(self._tenant, after, self._limit)

    @property
    def is_ahead(self) -> bool:
        """True when something was put that is not in the record."""
        return bool(self._new)

    def account(self, work: UnitOfWork) -> None:
        """Enters in the record what was put since the last time; ``accounted`` once that has committed. Raises Exhausted where other work
        of the tenant was faster."""
        if not self._new:
            return
        work.storage.add(self._new)
        after = work.storage.total().bytes + self._known.working_bytes
        if self._limit is not None and after > self._limit:
            raise _over(self._tenant, after, self._limit)

    def accounted(self) -> None:
        """What ``account`` entered is in the record for good."""
        self._new = {}

    def account_anyway(self) -> None:
        """Enters it whether or not the quota is passed: work that ended badly has stored what it has stored."""
        if self._new:
            with self._parts.ledger.work(self._tenant) as work:
                work.storage.add(self._new)
            self._new = {}

    def get(self, digest: Digest) -> bytes:
        """As ``ArtifactStore.get``."""
        return self._store.get(digest)

    def save(self, digest: Digest, target: Path) -> None:
        """As ``ArtifactStore.save``."""
        self._store.save(digest, target)

    def get_tree(self, digest: Digest) -> Path:
        """As ``ArtifactStore.get_tree``."""
        return self._store.get_tree(digest)

    def tree(self, digest: Digest) -> dict[str, Digest]:
        """As ``ArtifactStore.tree``."""
        return self._store.tree(digest)

    def exists(self, digest: Digest) -> bool:
        """As ``ArtifactStore.exists``."""
        return self._store.exists(digest)

    def digests(self) -> Iterator[Digest]:
        """As ``ArtifactStore.digests``."""
        return self._store.digests()

    def copy(self, digest: Digest, to: ArtifactStore) -> bool:
        """As ``ArtifactStore.copy``."""
        return self._store.copy(digest, to)

    def size(self, digest: Digest) -> int | None:
        """As ``ErasableStore.size``."""
        return self._store.size(digest)

    def destroy(self, digest: Digest, *, shared: bool = False) -> bool:
        """As ``ErasableStore.destroy``: what is gone counts no longer. Bytes that another tenant has stored as its own stay."""
        self._new.pop(digest, None)
        with self._parts.ledger.work(self._tenant) as work:
            work.storage.forget([digest])
        return self._store.destroy(digest, shared=shared or bool(held_by_others(self._parts, self._tenant, [digest])))

    def forget_copies(self, digest: Digest) -> None:
        """As ``ErasableStore.forget_copies``."""
        self._store.forget_copies(digest)

    def _counted(self, digest: Digest) -> Digest:
        self._new[digest] = self._store.size(digest) or 0
        return digest

    def _require(self, ahead: Sequence[tuple[int, Callable[[], Digest]]]) -> None:
        """Room for what is about to be put. Only where there is none it is looked whether some of it is counted already."""
        try:
            self.require_room(sum(size for size, _ in ahead))
        except Exhausted:
            sizes = {digest(): size for size, digest in ahead}
            with self._parts.ledger.work(self._tenant, write=False) as work:
                counted = work.storage.counted(sizes.keys()) | self._new.keys()
            self.require_room(sum(size for digest, size in sizes.items() if digest not in counted))


@contextmanager
def storing(deps: Dependencies, tenant: str, *, bounded: bool = True) -> Iterator[TenantStore]:
    """The artifact store for a piece of work of ``tenant``; what it put is in the record in the end. Without ``bounded`` nothing is
    refused.

    Raises Exhausted (``quota_storage``) where the quota is used up before it begins.
    """
    with deps.ledger.system(write=False) as system:
        limit = system.tenants.get(tenant).limits.storage_bytes if bounded else None
    store = TenantStore(deps, tenant, limit, stored_by(deps, tenant))
    store.require_room(0)
    try:
        yield store
        if store.is_ahead:
            with deps.ledger.work(tenant) as work:
                store.account(work)
            store.accounted()
    except BaseException:
        with suppress(TailorbirdError):
            store.account_anyway()
        raise


def require_room(deps: Dependencies, tenant: str, ahead: int) -> None:
    """Raises Exhausted (``quota_storage``) where ``ahead`` bytes more would pass the tenant's quota."""
    with deps.ledger.system(write=False) as system:
        limit = system.tenants.get(tenant).limits.storage_bytes
    if limit is not None:
        TenantStore(deps, tenant, limit, stored_by(deps, tenant)).require_room(ahead)


def stored_by(deps: Dependencies, tenant: str) -> Storage:
    """What a tenant has stored. Where nothing was counted yet, as after an upgrade, what its records lead to is counted first."""
    return _counted(deps, tenant).model_copy(update={"working_bytes": _working(deps, tenant)})


def _counted(deps: Dependencies, tenant: str) -> Storage:
    with deps.ledger.work(tenant, write=False) as work:
        total = work.storage.total()
        demand_anchored(work, storage_group(tenant, total))
    if total.artifacts == 0:
        with deps.ledger.system(write=False) as system:
            named = set(system.references.digests(of=tenant))
        sizes = {digest: deps.artifacts.size(digest) or 0 for digest in reached(deps.artifacts, named)}
        if sizes:
            with deps.ledger.work(tenant) as work:
                work.storage.add(sizes)
                total = work.storage.total()
    return total


def held_by_others(deps: Dependencies, tenant: str, digests: Iterable[Digest]) -> frozenset[Digest]:
    """Members of ``digests`` that another tenant's work has stored, too. That another's text names one holds nothing."""
    with deps.ledger.system(write=False) as system:
        others = [other for other in system.tenants.all() if other != tenant]
    asked, held = set(digests), set[Digest]()
    for other in others if asked else ():
        _counted(deps, other)  # of a record that an earlier version left, what it leads to is counted first
        with deps.ledger.work(other, write=False) as work:
            held |= work.storage.counted(asked)
    return frozenset(held)


def reached(store: ErasableStore, named: Iterable[Digest]) -> set[Digest]:
    """Artifacts that are named, or that an artifact among them names: a tree names its files."""
    found: set[Digest] = set()
    ahead = [digest for digest in named if store.exists(digest)]
    while ahead:
        digest = ahead.pop()
        if digest in found:
            continue
        found.add(digest)
        ahead += [inner for inner in _inside(store, digest) if store.exists(inner)]
    return found


def _inside(store: ErasableStore, digest: Digest) -> Iterator[Digest]:
    if (store.size(digest) or 0) > _LARGEST_MANIFEST:
        return
    try:
        data = store.get(digest)
    except (Corrupt, NotFound):
        return
    if data[:1] == b"{":
        yield from _DIGEST.findall(data.decode("utf-8", errors="ignore"))


def _working(deps: Dependencies, tenant: str) -> int:
    """Bytes of the tenant's unfinished work in the workspace: checkpoints of its runs, what its indexes keep."""
    with deps.ledger.work(tenant, write=False) as work:
        theirs = [folder for folder in _folders(deps.runs) if _has(work, folder.name)]
    return sum(map(bytes_below, [deps.indexes(tenant), *theirs]))


def _folders(place: Path) -> list[Path]:
    with suppress(OSError):
        return [path for path in place.iterdir() if path.is_dir()]
    return []


def _has(work: UnitOfWork, run: str) -> bool:
    try:
        return work.runs.get(run).id == run
    except NotFound:
        return False


def _over(tenant: str, after: int, limit: int) -> Exhausted:
    return Exhausted(
        f"the storage quota of {tenant} would be passed: {after:,} of {limit:,} bytes",
        f"ask an admin of the host for more: tailorbird tenant limit {tenant} --limit storage_bytes=NUMBER",
        code="quota_storage",
    )
