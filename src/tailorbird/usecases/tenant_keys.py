"""Data keys of tenants: made on first use, unwrapped by the workspace's key service, held in memory, rewrapped when that is rotated."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from threading import Lock

from tailorbird.crypto.sealed_stream import derive, fingerprint, new_data_key
from tailorbird.domain.errors import Corrupt, InvalidInput
from tailorbird.domain.identity import DataKey, WrappedKey
from tailorbird.ledger import Ledger, UnitOfWork
from tailorbird.ports.clock import Clock
from tailorbird.ports.key_service import KeyService


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
        if wrapped is None:
            made = self._made(tenant)  # the key service is asked before the transaction that writes
            with self._ledger.work(tenant) as work:
                key = self._added(work, *made)
        else:
            key = self._unwrapped(wrapped)
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
            return self._added(work, *self._made(work.tenant))
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

    def of_words(self, work: UnitOfWork) -> bytes:
        """The key of the words that the tenant of an open transaction keeps. Raises as ``of``."""
        return derive(self.within(work), "words")

    def forget(self, tenant: str) -> None:
        """Forgets the key of a tenant that was removed."""
        with self._lock:
            self._known.pop(tenant, None)

    def _made(self, tenant: str) -> tuple[DataKey, WrappedKey]:
        made = new_data_key()
        return made, WrappedKey(
            tenant=tenant, scope=made.scope, wrapped=self._wrap(made, tenant), fingerprint=fingerprint(made), at=self._clock.now()
        )

    def _added(self, work: UnitOfWork, made: DataKey, wrapped: WrappedKey) -> DataKey:
        counts = work.data_keys.add(wrapped)
        return made if counts.scope == made.scope else self._unwrapped(counts)

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
