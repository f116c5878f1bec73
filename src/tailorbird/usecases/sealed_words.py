"""Kept words of requests, encrypted under their tenant's key on the way into the record and decrypted on the way out."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path

from tailorbird.crypto.data_key import derive
from tailorbird.crypto.sealed_stream import seal_bytes, unseal_bytes
from tailorbird.domain.errors import Corrupt
from tailorbird.domain.feedback import KeptWords
from tailorbird.ports.feedback import ContentRepository
from tailorbird.ports.ledger import Ledger, SystemWork, UnitOfWork
from tailorbird.usecases.tenant_keys import TenantKeys

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
        texts = {name: seal_bytes(getattr(one, name).encode(), key, _context(one, name)) for name in _FIELDS}
        return one.model_copy(update={name: SEALED + base64.b64encode(text).decode() for name, text in texts.items()})

    def _plain(self, one: KeptWords) -> KeptWords:
        sealed = [name for name in _FIELDS if getattr(one, name).startswith(SEALED)]
        if len(sealed) < len(_FIELDS):
            return one
        try:
            texts = {
                name: unseal_bytes(base64.b64decode(getattr(one, name)[len(SEALED) :]), self._key, _context(one, name)) for name in sealed
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


def _context(one: KeptWords, name: str) -> bytes:
    return f"{one.tenant}/{one.request}/{name}".encode()
