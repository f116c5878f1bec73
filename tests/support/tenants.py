"""Objectives for many tenants, each with rows of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from support.usecases import write_objective

TENANTS = ("bolt", "cove", "dune")
SOURCE = {"path": "rows/{tenant}.csv", "source": {"origin": "mails to {tenant}", "license": "Apache-2.0"}}


def write_tenants(folder: Path, tenants: Sequence[str] = TENANTS, **changes: object) -> Path:
    """An objective for tenants whose rows each name the tenant in every text."""
    path = write_objective(folder, **{"tenant": "{tenant}", "data": [SOURCE], "ladder": ["floor"]} | changes)
    (folder / "rows").mkdir()
    for tenant in tenants:
        text = (folder / "rows.csv").read_text().replace("case ", f"at-{tenant} ")
        (folder / "rows" / f"{tenant}.csv").write_text(text)
    return path
