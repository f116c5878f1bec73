"""Result file of a matrix of architectures, where each row names the run that measured it: a partial run dates no other row anew."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from machine import commit, machine


def this_run() -> dict[str, Any]:
    """What rows are measured by now: time, commit, machine, versions."""
    libraries = {name: version(name) for name in ("torch", "transformers")}
    return {"at": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit(), "machine": machine(), **libraries}


def read_rows(path: Path) -> dict[str, dict[str, Any]]:
    """Rows by architecture, each with its ``run``; none where there is no file."""
    if not path.is_file():
        return {}
    told = json.loads(path.read_text(encoding="utf-8"))
    return {name: row | {"run": told["runs"][row["run"]]} for name, row in told["architectures"].items()}


def write_rows(path: Path, rows: dict[str, dict[str, Any]], told: dict[str, Any]) -> None:
    """Writes ``rows`` with what is ``told`` of them all. Runs of which no row is left are forgotten."""
    runs: list[dict[str, Any]] = []
    for row in rows.values():
        if row["run"] not in runs:
            runs.append(row["run"])
    architectures = {name: row | {"run": runs.index(row["run"])} for name, row in sorted(rows.items())}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**told, "runs": runs, "architectures": architectures}, indent=1) + "\n", encoding="utf-8")
