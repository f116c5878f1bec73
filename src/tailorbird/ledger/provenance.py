"""Repositories of row decisions, erasures with their lease, and tenant secrets."""

from __future__ import annotations

import secrets as randomness
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, or_, select, update

from tailorbird.crypto.anchored_rows import RowChanges, RowGroup, decision_group, erasure_group, secret_group
from tailorbird.crypto.canonical_json import plain_json
from tailorbird.domain.curation import Decision
from tailorbird.domain.erasure import Erasure, ErasureState
from tailorbird.domain.errors import Busy, Conflict, Corrupt, LeaseLost, NotFound
from tailorbird.domain.identity import Signature
from tailorbird.domain.value import Digest
from tailorbird.ledger.row_mapping import begins, insert_new, next_number, own, portions, select_fields, value_of
from tailorbird.ledger.tables import decisions, erasures, secrets
from tailorbird.ports.clock import Clock


class Decisions:
    """Implements ``DecisionRepository``."""

    def __init__(self, connection: Connection, tenant: str, changes: RowChanges | None = None) -> None:
        self._connection = connection
        self._tenant = tenant
        self._changes = changes or RowChanges()

    def add(self, made: Sequence[Decision]) -> None:
        """Adds decisions in one statement."""
        if made:
            first = self._connection.execute(select(next_number(decisions.c.number, decisions.c.tenant == self._tenant))).scalar_one()
            rows = [each.model_dump() | {"tenant": self._tenant, "number": number} for number, each in enumerate(made, first)]
            with self._changing({each.objective for each in made}):
                self._connection.execute(insert(decisions), rows)

    def of(self, objective: str) -> tuple[Decision, ...]:
        """The newest decision about each row of an objective, oldest first."""
        here = and_(decisions.c.tenant == self._tenant, decisions.c.objective == objective)
        newest = select(func.max(decisions.c.number)).where(here).group_by(decisions.c.row)
        asked = select_fields(decisions, Decision).where(here, decisions.c.number.in_(newest)).order_by(decisions.c.number)
        return tuple(value_of(Decision, row) for row in self._connection.execute(asked))

    def forget(self, rows: Iterable[Digest]) -> int:
        """Deletes what was decided about these rows."""
        parts = [and_(decisions.c.tenant == self._tenant, decisions.c.row.in_(some)) for some in portions(rows)]
        found = (self._connection.scalars(select(decisions.c.objective).where(here).distinct()) for here in parts)
        with self._changing({name for some in found for name in some}):
            counted = {"preserve_rowcount": True}
            return sum(self._connection.execute(delete(decisions).where(here), execution_options=counted).rowcount for here in parts)

    def groups(self) -> Iterator[RowGroup]:
        """What is anchored, objective by objective."""
        names = self._connection.scalars(select(decisions.c.objective).where(decisions.c.tenant == self._tenant).distinct()).all()
        yield from (decision_group(self._tenant, name, self.of(name)) for name in names)

    def _changing(self, objectives: Iterable[str]) -> AbstractContextManager[None]:
        names = sorted(objectives)
        return self._changes.changing(lambda: [decision_group(self._tenant, name, self.of(name)) for name in names])


class Erasures:
    """Implements ``ErasureRepository``. A lease that was not kept alive until ``lease_until`` may be taken over."""

    def __init__(self, connection: Connection, tenant: str, clock: Clock, changes: RowChanges | None = None) -> None:
        self._connection = connection
        self._tenant = tenant
        self._clock = clock
        self._changes = changes or RowChanges()

    def add(self, erasure: Erasure) -> Erasure:
        """Adds ``erasure``, or returns the one of its subject."""
        own(self._tenant, erasure.tenant)
        number = next_number(erasures.c.number, erasures.c.tenant == self._tenant)
        with self._changes.changing(self.groups):
            insert_new(self._connection, erasures, plain_json(erasure) | {"number": number, "at": erasure.at})
        return self._one(erasures.c.subject == erasure.subject)

    def get(self, erasure: str) -> Erasure:
        """The erasure whose id is, or alone starts with, ``erasure``. Raises NotFound."""
        return self._one(begins(erasures.c.id, erasure))

    def all(self) -> tuple[Erasure, ...]:
        """All erasures, newest first."""
        asked = select_fields(erasures, Erasure).where(erasures.c.tenant == self._tenant).order_by(erasures.c.number.desc())
        return tuple(value_of(Erasure, row) for row in self._connection.execute(asked))

    def groups(self) -> Iterator[RowGroup]:
        """What is anchored."""
        yield erasure_group(self._tenant, self.all())

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
        with self._changes.changing(self.groups):
            finished = self._change(erasure, erasures.c.owner == owner, owner=None, lease_until=None, **noted)
        if not finished:
            raise LeaseLost(f"somebody else carries out the erasure {erasure} by now", "see: tailorbird data erasures", code="lease_lost")
        return self.get(erasure)

    def sign(self, erasure: str, certificate: Digest, signature: Signature) -> Erasure:
        """Files the signature over the certificate. Raises Conflict when the certificate is another one."""
        same = erasures.c.certificate == certificate
        with self._changes.changing(self.groups):
            signed = self._change(erasure, same, signature=plain_json(signature), state=ErasureState.DONE)
        if not signed:
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

    def __init__(self, connection: Connection, tenant: str, changes: RowChanges | None = None) -> None:
        self._connection = connection
        self._tenant = tenant
        self._changes = changes or RowChanges()

    def get(self, name: str) -> bytes:
        """The secret called ``name``; of two who make it at once, both get the one that was written first."""
        here = and_(secrets.c.tenant == self._tenant, secrets.c.name == name)
        value = self._connection.scalar(select(secrets.c.value).where(here))
        if value is None:
            made = randomness.token_hex(32)
            if insert_new(self._connection, secrets, {"tenant": self._tenant, "name": name, "value": made}):
                self._changes.note(None, secret_group(self._tenant, name, bytes.fromhex(made)))
            value = self._connection.scalar(select(secrets.c.value).where(here))
        return _secret_of(value)

    def groups(self) -> Iterator[RowGroup]:
        """What is anchored of each."""
        for name, value in self._connection.execute(select(secrets.c.name, secrets.c.value).where(secrets.c.tenant == self._tenant)):
            yield secret_group(self._tenant, name, _secret_of(value))


def _secret_of(value: str | None) -> bytes:
    try:
        return bytes.fromhex(value or "")
    except ValueError:
        raise Corrupt(
            "a secret of the tenant cannot be read",
            "somebody changed the database outside tailorbird: restore it from a backup, then run tailorbird audit verify",
            code="record_corrupt",
        ) from None
