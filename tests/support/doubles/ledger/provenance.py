"""Decisions about rows, erasures with their lease, and secrets."""

from __future__ import annotations

import secrets as randomness
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta

from support.doubles.ledger.tables import Repository, Table, Transaction, next_number, stored
from tailorbird.crypto.anchored_rows import RowGroup, decision_group, erasure_group, secret_group
from tailorbird.domain.curation import Decision
from tailorbird.domain.erasure import Erasure, ErasureState
from tailorbird.domain.errors import Busy, Conflict, LeaseLost, NotFound
from tailorbird.domain.identity import Signature
from tailorbird.domain.value import Digest
from tailorbird.ports.clock import Clock

#: Decisions by number.
DECISIONS: Table[int, Decision] = Table("decisions")


@dataclass(frozen=True)
class ErasureRow:
    """An erasure, and who carries it out."""

    erasure: Erasure
    owner: str | None = None
    lease_until: datetime | None = None


#: Erasures by id.
ERASURES: Table[str, ErasureRow] = Table("erasures")
#: Secrets in hex, by name.
SECRETS: Table[str, str] = Table("secrets")


class MemoryDecisions(Repository):
    """Implements ``DecisionRepository``."""

    def add(self, decisions: Sequence[Decision]) -> None:
        """Adds decisions; the newest about a row counts."""
        if decisions:
            rows = self._change(DECISIONS)
            with self._changing({made.objective for made in decisions}):
                for made in decisions:
                    rows[next_number(rows)] = stored(made)

    def of(self, objective: str) -> tuple[Decision, ...]:
        """The newest decision about each row of an objective, oldest first."""
        newest = {made.row: number for number, made in self._rows(DECISIONS).items() if made.objective == objective}
        return tuple(self._rows(DECISIONS)[number] for number in sorted(newest.values()))

    def forget(self, rows: Iterable[Digest]) -> int:
        """Deletes what was decided about these rows."""
        known, named = self._change(DECISIONS), frozenset(rows)
        gone = [number for number, made in known.items() if made.row in named]
        with self._changing({known[number].objective for number in gone}):
            for number in gone:
                del known[number]
        return len(gone)

    def groups(self) -> Iterator[RowGroup]:
        """What is anchored, objective by objective."""
        names = sorted({made.objective for made in self._rows(DECISIONS).values()})
        yield from (decision_group(self._tenant, name, self.of(name)) for name in names)

    def _changing(self, objectives: Iterable[str]) -> AbstractContextManager[None]:
        names = sorted(objectives)
        return self._transaction.unanchored.changing(lambda: [decision_group(self._tenant, name, self.of(name)) for name in names])


class MemoryErasures(Repository):
    """Implements ``ErasureRepository``."""

    def __init__(self, transaction: Transaction, tenant: str, clock: Clock) -> None:
        super().__init__(transaction, tenant)
        self._clock = clock

    def add(self, erasure: Erasure) -> Erasure:
        """Adds ``erasure``, or returns the one of its subject. Raises NotFound when only the id is taken."""
        self._own(erasure.tenant)
        rows = self._change(ERASURES)
        same = next((row.erasure for row in rows.values() if row.erasure.subject == erasure.subject), None)
        if same is None and erasure.id in rows:
            raise self._missing()
        with self._transaction.unanchored.changing(self.groups):
            return same or rows.setdefault(erasure.id, ErasureRow(stored(erasure))).erasure

    def groups(self) -> Iterator[RowGroup]:
        """What is anchored."""
        yield erasure_group(self._tenant, self.all())

    def get(self, erasure: str) -> Erasure:
        """The erasure whose id is, or alone starts with, ``erasure``. Raises NotFound."""
        found = [row.erasure for name, row in self._rows(ERASURES).items() if name.startswith(erasure)]
        if len(found) != 1:
            raise self._missing()
        return found[0]

    def all(self) -> tuple[Erasure, ...]:
        """All erasures, newest first."""
        return tuple(row.erasure for row in self._rows(ERASURES).values())[::-1]

    def take(self, erasure: str, owner: str, ttl: timedelta) -> None:
        """Takes, or keeps, the lease. Raises Busy."""
        rows, now = self._change(ERASURES), self._clock.now()
        row = rows.get(erasure)
        is_free = row is not None and (row.owner in (None, owner) or (row.lease_until is not None and row.lease_until < now))
        if row is None or not is_free:
            raise Busy(
                f"somebody else carries out the erasure {erasure}",
                "wait for them; if they were killed, try again in half a minute",
                code="erasure_busy",
            )
        rows[erasure] = ErasureRow(row.erasure, owner, now + ttl)

    def finish(self, erasure: str, owner: str, certificate: Digest) -> Erasure:
        """Notes the certificate, which is to be signed, and gives the lease back. Raises LeaseLost."""
        row = self._change(ERASURES).get(erasure)
        if row is None or row.owner != owner:
            raise LeaseLost(f"somebody else carries out the erasure {erasure} by now", "see: tailorbird data erasures", code="lease_lost")
        return self._write(ErasureRow(row.erasure), certificate=certificate, signature=None, state=ErasureState.OPEN)

    def sign(self, erasure: str, certificate: Digest, signature: Signature) -> Erasure:
        """Files the signature over the certificate. Raises Conflict when the certificate is another one."""
        row = self._change(ERASURES).get(erasure)
        if row is None or row.erasure.certificate != certificate:
            raise Conflict(f"the erasure {erasure} has another certificate by now", "read it again, and sign that", code="certificate_old")
        return self._write(row, signature=signature, state=ErasureState.DONE)

    def _write(self, row: ErasureRow, **changes: object) -> Erasure:
        changed = row.erasure.model_copy(update=changes)
        with self._transaction.unanchored.changing(self.groups):
            self._change(ERASURES)[changed.id] = ErasureRow(changed, row.owner, row.lease_until)
        return changed

    def _missing(self) -> NotFound:
        return NotFound(
            f"no such erasure in {self._tenant}, or more than one", "list them with: tailorbird data erasures", code="erasure_missing"
        )


class MemorySecrets(Repository):
    """Implements ``SecretRepository``."""

    def get(self, name: str) -> bytes:
        """The secret of 32 bytes called ``name``, made at random on first use."""
        known = self._rows(SECRETS).get(name)
        if known is None:
            known = self._change(SECRETS)[name] = randomness.token_hex(32)
            self._note(None, secret_group(self._tenant, name, bytes.fromhex(known)))
        return bytes.fromhex(known)

    def groups(self) -> Iterator[RowGroup]:
        """What is anchored of each."""
        yield from (secret_group(self._tenant, name, bytes.fromhex(value)) for name, value in self._rows(SECRETS).items())
