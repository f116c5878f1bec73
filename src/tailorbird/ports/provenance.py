"""What must be heeded beside the files: decisions about rows, people to be forgotten, and the tenant's secret."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Protocol

from tailorbird.domain.curation import Decision
from tailorbird.domain.erasure import Erasure
from tailorbird.domain.identity import Signature
from tailorbird.domain.value import Digest


class DecisionRepository(Protocol):
    """One tenant's decisions about single rows."""

    def add(self, decisions: Sequence[Decision]) -> None:
        """Adds decisions; the newest about a row counts."""
        ...

    def of(self, objective: str) -> tuple[Decision, ...]:
        """The decision that counts for each row of an objective, oldest first."""
        ...

    def forget(self, rows: Iterable[Digest]) -> int:
        """Deletes what was decided about these rows, and returns how many decisions that were."""
        ...


class ErasureRepository(Protocol):
    """One tenant's erasures. One worker at a time carries one out."""

    def add(self, erasure: Erasure) -> Erasure:
        """Adds ``erasure``; where one of that subject exists, returns that one instead."""
        ...

    def get(self, erasure: str) -> Erasure:
        """The erasure whose id is, or starts with, ``erasure``. Raises NotFound."""
        ...

    def all(self) -> tuple[Erasure, ...]:
        """All erasures, newest first."""
        ...

    def take(self, erasure: str, owner: str, ttl: timedelta) -> None:
        """Takes, or keeps, the lease for ``owner``. Raises Busy when somebody else holds it."""
        ...

    def finish(self, erasure: str, owner: str, certificate: Digest) -> Erasure:
        """Notes the certificate and gives the lease back; what was signed before is not this one.

        Raises LeaseLost when ``owner`` no longer holds it.
        """
        ...

    def sign(self, erasure: str, certificate: Digest, signature: Signature) -> Erasure:
        """Files the signature over the certificate: the erasure is done. Raises Conflict when the certificate is another one by now."""
        ...


class SecretRepository(Protocol):
    """One tenant's secrets, made at random on first use and the same on every machine. They are in the record and nowhere else."""

    def get(self, name: str) -> bytes:
        """The secret of 32 bytes called ``name``."""
        ...
