"""The page of the API is true: its table is the table, and its examples do what they say."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.control import NowClock, control_app, served, use_clock
from tailorbird.api.authentication import OWN, PUBLIC
from tailorbird.auth import ROLES_FOR
from tailorbird.domain.identity import Role
from tailorbird.usecases import Dependencies
from tailorbird.usecases.identities import key_path
from tailorbird.usecases.registry import AnyUseCase, use_cases

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "http.md"
START, END = "<!-- operations: generated, see tests/api/test_docs.py -->\n", "<!-- end of operations -->"


def table() -> str:
    """The table of operations, as the page shows it. ``python tests/api/test_docs.py`` writes it there."""
    head = "| operation | call | parameters | what it does | who may |\n|---|---|---|---|---|\n"
    return head + "".join(map(_line, use_cases()))


def _line(operation: AnyUseCase) -> str:
    fields = operation.request.model_fields
    named = ", ".join(name if field.is_required() else f"*{name}*" for name, field in fields.items())
    allowed = ROLES_FOR[operation.action]
    who = "anybody" if allowed == frozenset(Role) else ", ".join(sorted(role.value for role in allowed))
    return f"| `{operation.name}` | `{operation.method} {operation.path}` | {named} | {operation.summary} | {who} |\n"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), flags=re.S)


def test_the_table_is_the_table_of_operations() -> None:
    page = PAGE.read_text()
    assert page.partition(START)[2].partition(END)[0] == table(), "run: python tests/api/test_docs.py"


def test_the_other_routes_are_named() -> None:
    page = PAGE.read_text()
    assert all(f"`{method} {path}`" in page for method, path in (*PUBLIC, *OWN))


def test_the_example_of_an_error_has_the_shape_of_one() -> None:
    (example,) = blocks("json")
    assert set(json.loads(example)["error"]) == {"message", "type", "param", "code", "hint"}


@pytest.fixture
def server(deps: Dependencies) -> Iterator[str]:
    use_clock(deps, NowClock())
    with served(control_app(deps)) as url:
        yield url


def test_logging_in_with_openssl_and_curl_works(deps: Dependencies, server: str, tmp_path: Path) -> None:
    log_in, show, *_ = blocks("bash")
    told = json.loads(shell(log_in, tmp_path, SERVER=server, KEY=str(key_path(deps, "acme", "author"))))
    assert told["identity"]["name"] == "author"
    assert json.loads(shell(show, tmp_path, SERVER=server, SECRET=told["secret"]))["name"] == "author"


def shell(script: str, folder: Path, **variables: str) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, env=os.environ | variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_logging_in_from_python_works(deps: Dependencies, server: str, capsys: pytest.CaptureFixture[str]) -> None:
    example, *_ = blocks("python")
    known = {"SERVER": server, "KEY": str(key_path(deps, "acme", "author"))}
    exec(compile(example, str(PAGE), "exec"), known)  # the page's own example
    assert capsys.readouterr().out == "author\n0\n"


if __name__ == "__main__":
    before, _, rest = PAGE.read_text().partition(START)
    PAGE.write_text(before + START + table() + END + rest.partition(END)[2])
