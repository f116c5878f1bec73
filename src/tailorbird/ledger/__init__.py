"""The record: what is known, in one SQL database, and bytes by digest beside it.

In: URLs. Out: a ``Ledger`` and an ``ArtifactStore`` (see ``ports/``). Must not know: what the values mean to the rooms that store them.
"""

from tailorbird.ledger.artifacts import open_artifacts
from tailorbird.ledger.unit_of_work import open_ledger

__all__ = ["open_artifacts", "open_ledger"]
