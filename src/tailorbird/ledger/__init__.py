"""Ledger: all records in one SQL database, and an artifact store of bytes by digest beside it.

In: URLs. Out: a ``Ledger`` and an ``ArtifactStore`` (see ``ports/``). Must not know: what the values mean to the packages that store
them.

    unit_of_work > one repository module per noun, system_repositories > row_mapping > tables > database > sqlite | postgresql
    event_log: an entry in the transaction of each change   artifacts > sealed_blobs > blobs: a folder or fsspec   dump: backup and move
"""

from tailorbird.ledger.artifacts import open_artifacts
from tailorbird.ledger.unit_of_work import Ledger, SystemWork, UnitOfWork, open_ledger

__all__ = ["Ledger", "SystemWork", "UnitOfWork", "open_artifacts", "open_ledger"]
