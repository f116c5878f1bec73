"""Repositories of row decisions, erasures with their lease, and tenant secrets."""

from __future__ import annotations

import secrets as randomness
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, or_, select, update

from tailorbird.crypto.canonical_json import plain_json
from tailorbird.domain.curation import Decision
from tailorbird.domain.erasure import Erasure, ErasureState
from tailorbird.domain.errors import Busy, Conflict, LeaseLost, NotFound
from tailorbird.domain.identity import Signature
from tailorbird.domain.value import Digest
from tailorbird.ledger.row_mapping import begins, insert_new, next_number, own, portions, select_fields, value_of
from tailorbird.ledger.tables import decisions, erasures, secrets
from tailorbird.ports.clock import Clock


class Decisions:
    """Implements ``DecisionRepository``."""

    def __init__(self, connection: Connection, tenant: str) -> None:
        self._connection = connection
        self._tenant = tenant

    def add(self, made: Sequence[Decision]) -> None:
        """Adds decisions in one statement."""
        if made:
            first = self._connection.execute(select(next_number(decisions.c.number, decisions.c.tenant == self._tenant))).scalar_one()
            rows = [each.model_dump() | {"tenant": self._tenant, "number": number} for number, each in enumerate(made, first)]
            self._connection.execute(insert(decisions), rows)

    def of(self, objective: str) -> tuple[Decision, ...]:
        """The newest decision about each row of an objective, oldest first."""
        here = and_(decisions.c.tenant == self._tenant, decisions.c.objective == objective)
        newest = select(func.max(decisions.c.number)).where(here).group_by(decisions.c.row)
        asked = select_fields(decisions, Decision).where(here, decisions.c.number.in_(newest)).order_by(decisions.c.number)
        return tuple(value_of(Decision, row) for row in self._connection.execute(asked))

    def forget(self, rows: Iterable[Digest]) -> int:
        """Deletes what was decided about these rows."""
        gone = 0
        for some in portions(rows):
            here = and_(decisions.c.tenant == self._tenant, decisions.c.row.in_(some))
            gone += self._connection.execute(delete(decisions).where(here), execution_options={"preserve_rowcount": True}).rowcount
        return gone


class Erasures:
    """Implements ``ErasureRepository``. A lease that was not kept alive until ``lease_until`` may be taken over."""

    def __init__(self, connection: Connection, tenant: str, clock: Clock) -> None:
        self._connection = connection
        self._tenant = tenant
        self._clock = clock

    def add(self, erasure: Erasure) -> Erasure:
        """Adds ``erasure``, or returns the one of its subject."""
        own(self._tenant, erasure.tenant)
        number = next_number(erasures.c.number, erasures.c.tenant == self._tenant)
        insert_new(self._connection, erasures, plain_json(erasure) | {"number": number, "at": erasure.at})
        return self._one(erasures.c.subject == erasure.subject)

    def get(self, erasure: str) -> Erasure:
        """The erasure whose id is, or alone starts with, ``erasure``. Raises NotFound."""
        return self._one(begins(erasures.c.id, erasure))

    def all(self) -> tuple[Erasure, ...]:
        """All erasures, newest first."""
        asked = select_fields(erasures, Erasure).where(erasures.c.tenant == self._tenant).order_by(erasures.c.number.desc())
        return tuple(value_of(Erasure, row) for row in self._connection.execute(asked))

    def take(self, erasure: str, owner: str, ttl: timedelta) -> None:
        """Takes, or keeps, the lease. Raises Busy."""
        now = self._clock.now()
        free = or_(erasures.c.owner.is_(None), erasures.c.owner == owner, erasures.c.lease_until < now)
        if not self._change(erasure, free, owner=owner, lease_until=now + ttl):
            raise Busy(
                f"somebody else carries out the erasure {erasure}",
                "wait for them; if they were killed, try again in half a minute",
                code="erasure_busy",
            )

    def finish(self, erasure: str, owner: str, certificate: Digest) -> Erasure:
        """Notes the certificate, which is to be signed, and gives the lease back. Raises LeaseLost."""
        noted = {"certificate": certificate, "signature": None, "state": ErasureState.OPEN}
        if not self._change(erasure, erasures.c.owner == owner, owner=None, lease_until=None, **noted):
            raise LeaseLost(f"somebody else carries out the erasure {erasure} by now", "see: tailorbird data erasures", code="lease_lost")
        return self.get(erasure)

    def sign(self, erasure: str, certificate: Digest, signature: Signature) -> Erasure:
        """Files the signature over the certificate. Raises Conflict when the certificate is another one."""
        same = erasures.c.certificate == certificate
        if not self._change(erasure, same, signature=plain_json(signature), state=ErasureState.DONE):
            raise Conflict(f"the erasure {erasure} has another certificate by now", "read it again, and sign that", code="certificate_old")
        return self.get(erasure)

    def _one(self, which: ColumnElement[bool]) -> Erasure:
        asked = select_fields(erasures, Erasure).where(erasures.c.tenant == self._tenant, which).limit(2)
        found = [value_of(Erasure, row) for row in self._connection.execute(asked)]
        if len(found) != 1:
            raise NotFound(
                f"no such erasure in {self._tenant}, or more than one", "list them with: tailorbird data erasures", code="erasure_missing"
            )
        return found[0]

    def _change(self, erasure: str, when: ColumnElement[bool], **values: Any) -> bool:
        here = and_(erasures.c.tenant == self._tenant, erasures.c.id == erasure, when)
        return self._connection.execute(update(erasures).where(here).values(**values)).rowcount == 1


class Secrets:
    """Implements ``SecretRepository``."""

    def __init__(self, connection: Connection, tenant: str) -> None:
        self._connection = connection
        self._tenant = tenant

    def get(self, name: str) -> bytes:
        """The secret called ``name``; of two who make it at once, both get the one that was written first."""
        here = and_(secrets.c.tenant == self._tenant, secrets.c.name == name)
        value = self._connection.scalar(select(secrets.c.value).where(here))
        if value is None:
            insert_new(self._connection, secrets, {"tenant": self._tenant, "name": name, "value": randomness.token_hex(32)})
            value = self._connection.scalar(select(secrets.c.value).where(here))
        return bytes.fromhex(str(value))
