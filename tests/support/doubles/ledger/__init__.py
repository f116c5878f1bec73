"""In-memory twin of the ledger, held to the contract tests of the SQL ledgers.

In: a clock. Out: a ``Ledger`` (see ``ports/``) that keeps everything in dictionaries. Must not know: SQL, files.
"""

from support.doubles.ledger.unit_of_work import MemoryLedger, MemoryStore

__all__ = ["MemoryLedger", "MemoryStore"]
