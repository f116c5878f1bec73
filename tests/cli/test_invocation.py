"""The command line exits with statuses of its one list."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_no_other_status_is_given() -> None:
    """Every way out names its status, by the one list."""
    for path in (ROOT / "src" / "tailorbird" / "cli").glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and ast.unparse(call.func) in ("typer.Exit", "sys.exit", "SystemExit", "click.exceptions.Exit"):
                given = [ast.unparse(argument) for argument in call.args]
                (status,) = given
                assert status.startswith("ExitStatus."), f"{path.name}:{call.lineno}"
