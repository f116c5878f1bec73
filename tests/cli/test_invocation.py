"""``docs/cli.md`` lists every verb and every exit status, and the command line uses no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tailorbird.cli.invocation import ExitStatus
from tailorbird.cli.main import VERBS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


def test_the_page_lists_every_status_with_its_number() -> None:
    listed = re.findall(r"^\| (\d+) \| `(\w+)` \| \S", PAGE, flags=re.MULTILINE)
    assert listed == [(str(status.value), status.name) for status in ExitStatus]


def test_the_page_lists_every_verb_as_help_does() -> None:
    listed = re.findall(r"^\| `([a-z]+)` \| (.+) \|$", PAGE, flags=re.MULTILINE)
    assert listed == [(verb, what) for verb, (_, what) in VERBS.items() if verb != "engine"]


def test_no_other_status_is_given() -> None:
    """Every way out names its status, by the one list."""
    for path in (ROOT / "src" / "tailorbird" / "cli").glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and ast.unparse(call.func) in ("typer.Exit", "sys.exit", "SystemExit", "click.exceptions.Exit"):
                given = [ast.unparse(argument) for argument in call.args]
                (status,) = given
                assert status.startswith("ExitStatus."), f"{path.name}:{call.lineno}"
