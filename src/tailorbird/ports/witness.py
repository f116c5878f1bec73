"""Witnesses of the log, which cosign its checkpoints.

In: requests in the form of c2sp.org/tlog-witness. Out: what the witness answered. Must not know: what the log holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class WitnessAnswer:
    """Status and text of a witness's answer. ``size`` is that of the largest tree that it has cosigned, where it told one (409)."""

    status: int
    text: str = ""
    size: int | None = None


class Witness(Protocol):
    """One witness."""

    #: Its verifier key (``name+hash+base64``).
    key: str

    def add_checkpoint(self, body: bytes) -> WitnessAnswer:
        """Asks for a cosignature. Raises Unavailable when the witness cannot be reached."""
        ...
