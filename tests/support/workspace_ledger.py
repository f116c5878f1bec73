"""Ledger of a test's workspace: a copy of one SQLite file, made once, or a database that is named."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path

from tailorbird.auth import KeyFileSealer
from tailorbird.ledger import Ledger, open_ledger
from tailorbird.ports.clock import Clock

SQLITE = "sqlite"


@cache
def _template() -> Path:
    """An empty database, with its tables."""
    file = Path(tempfile.mkdtemp(prefix="tb-ledger-")) / "tailorbird.db"
    with closing(open_ledger(f"sqlite:///{file}")) as ledger:
        ledger.migrate()
    return file


def workspace_ledger(folder: Path, clock: Clock, kind: str = SQLITE) -> Ledger:
    """The ledger of the workspace in ``folder``. ``kind``: ``sqlite``, or the URL of a database."""
    file = folder / "tailorbird.db"
    if kind == SQLITE and not file.exists():
        shutil.copy(_template(), file)
    ledger = open_ledger(f"sqlite:///{file}" if kind == SQLITE else kind, clock, KeyFileSealer(folder))
    if kind != SQLITE:
        ledger.migrate()
    return ledger
