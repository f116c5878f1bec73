"""Data keys of tenants: made on first use, unwrapped by the workspace's key service, held in memory, rewrapped when that is rotated."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from threading import Lock

from tailorbird.crypto.sealed_stream import derive, fingerprint, new_data_key, seal_bytes, unseal_bytes
from tailorbird.domain.data_key import DataKey, WrappedKey
from tailorbird.domain.errors import Corrupt, InvalidInput
from tailorbird.domain.feedback import KeptWords
from tailorbird.domain.value import Digest
from tailorbird.ports.artifacts import ArtifactStore, ErasableStore
from tailorbird.ports.clock import Clock
from tailorbird.ports.feedback import ContentRepository
from tailorbird.ports.key_service import KeyService
from tailorbird.ports.ledger import Ledger, SystemWork, UnitOfWork


class TenantKeys:
    """The data keys of a workspace. ``service`` opens its key service on first use; None: nothing new is encrypted.

    A key is asked for when something that it encrypts is read or written, so that a service that is away stops nothing else. Safe to share
    between threads.
    """

    def __init__(self, ledger: Ledger, clock: Clock, service: Callable[[], KeyService] | None) -> None:
        self._ledger = ledger
        self._clock = clock
        self._service = service
        self._known: dict[str, DataKey] = {}
        self._lock = Lock()

    @property
    def encrypts(self) -> bool:
        """True when what is new is encrypted."""
        return self._service is not None

    def of(self, tenant: str) -> DataKey | None:
        """The tenant's key, made now where it has none and new things are encrypted; None where nothing of the tenant is.

        Raises what the key service raises, Corrupt (``data_key_corrupt``: it answers with another key), InvalidInput (``encryption_off``).
        """
        known = self._known.get(tenant)
        if known is not None:
            return known
        with self._ledger.work(tenant, write=False) as work:
            wrapped = work.data_keys.get()
        if wrapped is None and self._service is None:
            return None
        key = self._made(tenant) if wrapped is None else self._unwrapped(wrapped)
        with self._lock:
            return self._known.setdefault(tenant, key)

    def within(self, work: UnitOfWork) -> DataKey:
        """The key of the tenant of an open transaction, made in it where there is none; ask once in a transaction. The service is asked
        once in a process. Raises as ``of``."""
        known = self._known.get(work.tenant)
        if known is not None:
            return known
        wrapped = work.data_keys.get()
        if wrapped is None:  # not remembered: the transaction may be rolled back
            return self._added(work)
        key = self._unwrapped(wrapped)
        with self._lock:
            return self._known.setdefault(work.tenant, key)

    def wrapped(self, tenant: str) -> WrappedKey | None:
        """The tenant's key as the record has it."""
        with self._ledger.work(tenant, write=False) as work:
            return work.data_keys.get()

    def rewrap(self, tenant: str) -> bool:
        """Wraps the tenant's key by the newest version of the workspace's; what it encrypted stays as it is. False where it has none."""
        wrapped = self.wrapped(tenant)
        if wrapped is None:
            return False
        again = self._wrap(self._unwrapped(wrapped), tenant)
        with self._ledger.work(tenant) as work:
            work.data_keys.rewrap(wrapped.scope, again)
        return True

    def forget(self, tenant: str) -> None:
        """Forgets the key of a tenant that was removed."""
        with self._lock:
            self._known.pop(tenant, None)

    def _made(self, tenant: str) -> DataKey:
        wrapped, made = self._new(tenant)
        with self._ledger.work(tenant) as work:
            counts = work.data_keys.add(wrapped)
        return made if counts.scope == made.scope else self._unwrapped(counts)

    def _added(self, work: UnitOfWork) -> DataKey:
        wrapped, made = self._new(work.tenant)
        counts = work.data_keys.add(wrapped)
        return made if counts.scope == made.scope else self._unwrapped(counts)

    def _new(self, tenant: str) -> tuple[WrappedKey, DataKey]:
        made = new_data_key()
        wrapped = WrappedKey(
            tenant=tenant, scope=made.scope, wrapped=self._wrap(made, tenant), fingerprint=fingerprint(made), at=self._clock.now()
        )
        return wrapped, made

    def _wrap(self, key: DataKey, tenant: str) -> str:
        """The wrapped form, unwrapped once before anything depends on it. Raises Corrupt where that gives another key."""
        wrapped = self._asked().wrap(key.secret, _context(tenant, key.scope))
        if not hmac.compare_digest(self._asked().unwrap(wrapped, _context(tenant, key.scope)), key.secret):
            raise self._lies()
        return wrapped

    def _unwrapped(self, wrapped: WrappedKey) -> DataKey:
        secret = self._asked().unwrap(wrapped.wrapped, _context(wrapped.tenant, wrapped.scope))
        key = DataKey(wrapped.scope, secret)
        if not hmac.compare_digest(fingerprint(key), wrapped.fingerprint):
            raise self._lies()
        return key

    def _asked(self) -> KeyService:
        if self._service is None:
            raise InvalidInput(
                "what this tenant has stored is encrypted, and the settings name no key",
                "set encryption to what it was: file, file:PATH, env:NAME or vault:URL",
                code="encryption_off",
            )
        return self._service()

    def _lies(self) -> Corrupt:
        return Corrupt(
            f"{self._asked().name} answers with another key than the one that was wrapped",
            "do not write anything: check the key service, and that the record belongs to it",
            code="key_service_lies",
        )


def _context(tenant: str, scope: str) -> str:
    """What a wrapped key belongs to: another tenant's does not open in its place."""
    return f"tailorbird/{tenant}/{scope}"


#: How a text begins that is encrypted.
SEALED = "sealed1:"
_FIELDS = ("text", "answer")


class SealedLedger:
    """Implements ``Ledger``: the ledger ``within``, whose kept words are encrypted where the workspace encrypts."""

    def __init__(self, within: Ledger, keys: TenantKeys) -> None:
        self.within = within
        self._keys = keys

    @contextmanager
    def work(self, tenant: str, *, write: bool = True, durable: bool = True) -> Iterator[UnitOfWork]:
        """As ``Ledger.work``."""
        with self.within.work(tenant, write=write, durable=durable) as work:
            work.contents = SealedContents(work.contents, work, self._keys)
            yield work

    @contextmanager
    def system(self, *, write: bool = True) -> Iterator[SystemWork]:
        """As ``Ledger.system``."""
        with self.within.system(write=write) as system:
            yield system

    def flush(self, *, scrub: bool = False) -> None:
        """As ``Ledger.flush``."""
        self.within.flush(scrub=scrub)

    def pulse(self) -> object | None:
        """As ``Ledger.pulse``."""
        return self.within.pulse()

    def role_script(self) -> str:
        """As the ledger within."""
        return self.within.role_script()

    def damages(self, *, thorough: bool = False) -> tuple[str, ...]:
        """As ``Ledger.damages``."""
        return self.within.damages(thorough=thorough)

    def migrate(self) -> None:
        """As ``Ledger.migrate``."""
        self.within.migrate()

    def dump(self, folder: Path) -> dict[str, int]:
        """As ``Ledger.dump``: what is encrypted stays so."""
        return self.within.dump(folder)

    def restore(self, folder: Path) -> dict[str, int]:
        """As ``Ledger.restore``."""
        return self.within.restore(folder)

    def close(self) -> None:
        """As ``Ledger.close``."""
        self.within.close()


class SealedContents:
    """Implements ``ContentRepository`` over the one ``within`` the transaction. Each text is encrypted for its request and its field."""

    def __init__(self, within: ContentRepository, work: UnitOfWork, keys: TenantKeys) -> None:
        self._within = within
        self._work = work
        self._keys = keys

    def add(self, kept: Sequence[KeptWords]) -> None:
        """As ``ContentRepository.add``. Raises what the key service raises."""
        self._within.add([self._sealed(one) for one in kept] if kept and self._keys.encrypts else kept)

    def get(self, request: str) -> KeptWords | None:
        """As ``ContentRepository.get``. Raises Corrupt."""
        found = self._within.get(request)
        return found and self._plain(found)

    def page(self, after: str, limit: int) -> tuple[KeptWords, ...]:
        """As ``ContentRepository.page``. Raises Corrupt."""
        return tuple(map(self._plain, self._within.page(after, limit)))

    def forget(self, named: Collection[str]) -> int:
        """As ``ContentRepository.forget``."""
        return self._within.forget(named)

    def purge(self, before: datetime) -> int:
        """As ``ContentRepository.purge``."""
        return self._within.purge(before)

    def seal(self, limit: int, after: str = "") -> tuple[int, str]:
        """Encrypts those of the ``limit`` first after ``after`` that are not: how many, and the last that was looked at (empty: none)."""
        page = self._within.page(after, limit)
        clear = [one for one in page if not self._is_sealed(one)]
        self._within.forget([one.request for one in clear])
        self._within.add([self._sealed(one) for one in clear])
        return len(clear), page[-1].request if page else ""

    def _is_sealed(self, one: KeptWords) -> bool:
        """What begins as if it were encrypted may be what somebody wrote."""
        try:
            return all(getattr(one, name).startswith(SEALED) for name in _FIELDS) and self._plain(one) is not None
        except Corrupt:
            return False

    def _sealed(self, one: KeptWords) -> KeptWords:
        key = self._key
        texts = {name: seal_bytes(getattr(one, name).encode(), key, _field_context(one, name)) for name in _FIELDS}
        return one.model_copy(update={name: SEALED + base64.b64encode(text).decode() for name, text in texts.items()})

    def _plain(self, one: KeptWords) -> KeptWords:
        sealed = [name for name in _FIELDS if getattr(one, name).startswith(SEALED)]
        if len(sealed) < len(_FIELDS):
            return one
        try:
            texts = {
                name: unseal_bytes(base64.b64decode(getattr(one, name)[len(SEALED) :]), self._key, _field_context(one, name))
                for name in sealed
            }
        except (Corrupt, binascii.Error):
            raise Corrupt(
                f"the kept words of request {one.request} were changed, or belong to another",
                "restore the record from a backup, or let them expire",
                code="words_corrupt",
            ) from None
        return one.model_copy(update={name: text.decode() for name, text in texts.items()})

    @cached_property
    def _key(self) -> bytes:
        """Asked for once in a transaction: a key that it has made itself may be rolled back with it."""
        return derive(self._keys.within(self._work), "words")


def _field_context(one: KeptWords, name: str) -> bytes:
    return f"{one.tenant}/{one.request}/{name}".encode()


class SealedArtifacts:
    """Implements ``ErasableStore``. What is put is encrypted, but for what is ``public``; what is read is looked for among the encrypted
    first, and then in ``shared``, where public artifacts lie and those from before the workspace encrypted.

    ``own`` opens the encrypted part on first use, and gives None where the tenant has none.
    """

    def __init__(self, own: Callable[[], ErasableStore | None], shared: ErasableStore) -> None:
        self._opens = own
        self._shared = shared

    def put(self, *parts: bytes | memoryview) -> Digest:
        """As ``ArtifactStore.put``."""
        return self._written.put(*parts)

    def get(self, digest: Digest) -> bytes:
        """As ``ArtifactStore.get``."""
        return self._holder(digest).get(digest)

    def save(self, digest: Digest, target: Path) -> None:
        """As ``ArtifactStore.save``."""
        self._holder(digest).save(digest, target)

    def put_tree(self, folder: Path, *, public: bool = False) -> Digest:
        """As ``ArtifactStore.put_tree``."""
        return self._shared.put_tree(folder, public=True) if public else self._written.put_tree(folder)

    def get_tree(self, digest: Digest) -> Path:
        """As ``ArtifactStore.get_tree``. Files of a tree that were stored before the workspace encrypted are encrypted now."""
        holder = self._holder(digest)
        if holder is not self._shared:
            for file in set(holder.tree(digest).values()):
                if not holder.exists(file) and self._shared.exists(file):
                    self._shared.copy(file, holder)
        return holder.get_tree(digest)

    def tree(self, digest: Digest) -> dict[str, Digest]:
        """As ``ArtifactStore.tree``."""
        return self._holder(digest).tree(digest)

    def exists(self, digest: Digest) -> bool:
        """As ``ArtifactStore.exists``."""
        return self._holder(digest).exists(digest)

    def size(self, digest: Digest) -> int | None:
        """As ``ErasableStore.size``."""
        return self._holder(digest).size(digest)

    def destroy(self, digest: Digest, *, shared: bool = False) -> bool:
        """As ``ErasableStore.destroy``. What is encrypted is nobody else's."""
        own = self._opens()
        gone = own is not None and own.destroy(digest)
        return self._shared.destroy(digest, shared=shared) or gone

    def forget_copies(self, digest: Digest) -> None:
        """As ``ErasableStore.forget_copies``."""
        for store in filter(None, (self._opens(), self._shared)):
            store.forget_copies(digest)

    def digests(self) -> Iterator[Digest]:
        """Names of what is encrypted for the tenant, and of what lies in the clear."""
        own = self._opens()
        seen = set(own.digests()) if own is not None else set[Digest]()
        yield from seen
        yield from (digest for digest in self._shared.digests() if digest not in seen)

    def copy(self, digest: Digest, to: ArtifactStore) -> bool:
        """As ``ArtifactStore.copy``."""
        return self._holder(digest).copy(digest, to)

    @property
    def _written(self) -> ErasableStore:
        own = self._opens()
        return self._shared if own is None else own

    def _holder(self, digest: Digest) -> ErasableStore:
        own = self._opens()
        return own if own is not None and own.exists(digest) else self._shared
