"""Ledger of a test's workspace: the in-memory twin, or a database."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from support.doubles import MemoryLedger, MemoryStore
from tailorbird.auth import KeyFileSealer
from tailorbird.ledger import open_ledger
from tailorbird.ports.clock import Clock
from tailorbird.ports.ledger import Ledger

#: The ledger of workspaces whose test needs no file: ``memory``, or ``sqlite`` to try the same tests on files.
FAST = os.environ.get("TAILORBIRD_TEST_LEDGER", "memory")
#: The ledger of workspaces that other processes open, or that a test looks into.
SQLITE = "sqlite"

#: What the twins of this process hold, by the workspace's folder.
_stores: dict[Path, MemoryStore] = {}


def workspace_ledger(folder: Path, clock: Clock, kind: str = FAST) -> Ledger:
    """The ledger of the workspace in ``folder``, migrated; whoever opens the folder again finds what was recorded.

    ``kind``: ``memory``, ``sqlite``, or the URL of a database.
    """
    sealer = KeyFileSealer(folder)
    if kind == "memory":
        return MemoryLedger(clock, _stores.setdefault(folder.resolve(), MemoryStore()), sealer)
    ledger = open_ledger(f"sqlite:///{folder / 'tailorbird.db'}" if kind == SQLITE else kind, clock, sealer)
    ledger.migrate()
    return ledger


def copy_workspace(folder: Path, to: Path) -> Path:
    """Copies a workspace with its ledger."""
    shutil.copytree(folder, to)
    if folder.resolve() in _stores:
        _stores[to.resolve()] = _stores[folder.resolve()].copy()
    return to


def close_workspace(folder: Path, ledger: Ledger) -> None:
    """Closes the ledger of a workspace that nobody opens again."""
    ledger.close()
    _stores.pop(folder.resolve(), None)
