"""Encryption at rest of a whole workspace: how it stands, switched on for what is there, and a new workspace key for the same data.

What is here works on the machine of the workspace, while no server runs: a server that does not know of the key yet would store in the
clear.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tailorbird import base_models
from tailorbird.auth import Action
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.errors import Conflict, Corrupt, Internal, NotFound
from tailorbird.domain.value import Digest, Value
from tailorbird.ports.artifacts import ErasableStore
from tailorbird.system.files import is_in_memory
from tailorbird.usecases.audit_events import record, require_host
from tailorbird.usecases.dependencies import Actor, Dependencies, Progress
from tailorbird.usecases.registry import local
from tailorbird.usecases.storage_quota import reached
from tailorbird.usecases.tenant_keys import SealedContents, TenantKeys

#: Requests whose words are encrypted in one transaction.
_PAGE = 200


class TenantEncryption(Value):
    """How it stands with one tenant: whether it has a data key, and how many of its artifacts lie in the clear, beside public models."""

    tenant: str
    has_key: bool
    in_the_clear: int


class EncryptionStatus(Value):
    """How it stands with a workspace. ``unnamed`` artifacts lie in the clear, and no tenant's record leads to them. ``decrypts_in_memory``:
    what is read is decrypted into memory, and to no disk."""

    encrypts: bool
    decrypts_in_memory: bool
    tenants: tuple[TenantEncryption, ...]
    public: int
    unnamed: int


class Encrypted(Value):
    """What was encrypted: artifacts, what they took in the clear, and requests whose words are kept."""

    artifacts: int
    bytes: int
    words: int


class Rewrapped(Value):
    """Tenants whose data key was wrapped again."""

    tenants: tuple[str, ...]


@local(Action.MANAGE_TENANTS)
def encryption_status(deps: Dependencies, actor: Actor) -> EncryptionStatus:
    """How it stands. Raises Forbidden."""
    require_host(deps, actor)
    clear, public = set(deps.artifacts.digests()), set[Digest]()
    named, found = set[Digest](), []
    for tenant, theirs, models in _of_tenants(deps):
        named |= theirs
        public |= models
        with deps.ledger.work(tenant, write=False) as work:
            has_key = work.data_keys.get() is not None
        found.append((tenant, has_key, theirs))
    states = tuple(TenantEncryption(tenant=name, has_key=key, in_the_clear=len((theirs & clear) - public)) for name, key, theirs in found)
    return EncryptionStatus(
        encrypts=deps.keys is not None and deps.keys.encrypts,
        decrypts_in_memory=deps.clear is not None and is_in_memory(deps.clear()),
        tenants=states,
        public=len(public & clear),
        unnamed=len(clear - named),
    )


@local(Action.MANAGE_TENANTS)
def encrypt_stored(deps: Dependencies, actor: Actor, progress: Progress) -> Encrypted:
    """Encrypts what every tenant has stored in the clear, but for models of the catalogue, and then destroys it there.

    Interrupted, it goes on where it stopped. Raises Forbidden, Conflict (the settings name no key), and what the key service raises.
    """
    require_host(deps, actor)
    keys = _keys(deps)
    found = list(_of_tenants(deps))
    public = {digest for _, _, models in found for digest in models}
    moved, words = dict[Digest, int](), 0
    for tenant, theirs, _ in found:
        sealed, mine = _sealed_store(deps, keys, tenant), sorted(theirs - public)
        progress.tell(f"{tenant}: {len(mine)} artifacts")
        words += _seal_words(deps, tenant)
        for number, digest in enumerate(mine, 1):
            if deps.artifacts.exists(digest):
                deps.artifacts.copy(digest, sealed)
                moved[digest] = deps.artifacts.size(digest) or 0
            progress.count(number, len(mine))
    for digest in moved:
        deps.artifacts.destroy(digest)
    with deps.ledger.work(actor.tenant) as work:
        record(work, "workspace.encrypted", actor.name, actor.tenant, deps.clock.now(), {"artifacts": len(moved), "words": words})
    deps.ledger.flush(scrub=True)
    return Encrypted(artifacts=len(moved), bytes=sum(moved.values()), words=words)


@local(Action.MANAGE_TENANTS)
def rewrap_keys(deps: Dependencies, actor: Actor) -> Rewrapped:
    """Wraps every tenant's data key by the newest version of the workspace's. Nothing else is written.

    Raises Forbidden, Conflict (the settings name no key), and what the key service raises: those that were wrapped again stay so.
    """
    require_host(deps, actor)
    keys = _keys(deps)
    with deps.ledger.system(write=False) as system:
        names = list(system.tenants.all())
    done = tuple(name for name in names if keys.rewrap(name))
    with deps.ledger.work(actor.tenant) as work:
        record(work, "workspace.key_rotated", actor.name, actor.tenant, deps.clock.now(), {"tenants": len(done)})
    return Rewrapped(tenants=done)


def _seal_words(deps: Dependencies, tenant: str) -> int:
    """Encrypts kept words, a short transaction a page; how many requests that were."""
    count, after = 0, ""
    while True:
        with deps.ledger.work(tenant) as work:
            if not isinstance(work.contents, SealedContents):
                return count
            sealed, after = work.contents.seal(_PAGE, after)
        count += sealed
        if not after:
            return count


def _sealed_store(deps: Dependencies, keys: TenantKeys, tenant: str) -> ErasableStore:
    key = keys.of(tenant)
    if key is None or deps.sealed is None:
        raise Internal(f"tenant {tenant} has no data key though the workspace encrypts", "please report this", code="data_key_missing")
    return deps.sealed(key)


def _keys(deps: Dependencies) -> TenantKeys:
    if deps.keys is None or not deps.keys.encrypts:
        raise Conflict("this workspace does not encrypt", "tailorbird encryption enable", code="encryption_off")
    return deps.keys


def _of_tenants(deps: Dependencies) -> Iterator[tuple[str, set[Digest], set[Digest]]]:
    """Each tenant, what its records lead to among what lies in the clear, and what of it is a model of the catalogue."""
    with deps.ledger.system(write=False) as system:
        names = list(system.tenants.all())
        named = {name: set(system.references.digests(of=name)) for name in names}
    for name in names:
        with deps.ledger.work(name, write=False) as work:
            bases = [work.records.get(BaseModelRef, digest) for digest in work.records.digests(BaseModelRef)]
        yield name, reached(deps.artifacts, named[name]), _public(deps.artifacts, bases)


def _public(store: ErasableStore, bases: list[BaseModelRef]) -> set[Digest]:
    offered = {entry.name for entry in base_models.catalogue()}
    trees = [base.digest for base in bases if base.name in offered and not base.chat_template and store.exists(base.digest)]
    return {*trees, *(file for tree in trees for file in _files(store, tree).values())}


def _files(store: ErasableStore, tree: Digest) -> Mapping[str, Digest]:
    try:
        return store.tree(tree)
    except (Corrupt, NotFound):
        return {}
