"""Whatever command line and Python API do here goes by the roles of who asks, as it does by URL."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.bases import use_twins
from support.control import act
from support.usecases import write_objective
from tailorbird import Workspace, auth, cli, sdk
from tailorbird.cli.main import main
from tailorbird.domain.errors import Forbidden, NotFound
from tailorbird.domain.identity import Role
from tailorbird.usecases import Dependencies
from tailorbird.usecases.registry import LOCAL, UseCase, perform, use_cases

#: Calls of a workspace that every role may make, and that do nothing to the record.
OPEN = {"adapt_tenants", "aliases", "close", "connect", "create", "inspect", "release", "releases"} | {
    "rollout",
    "rollouts",
    "run",
    "runs",
    "wait",
}
#: What only a server answers.
REMOTE = {"ask"}
#: Arguments of the calls that have any; whatever is refused is refused before they are read.
GIVEN: dict[str, Any] = {"objective": "objective.yaml", "rollout": "0" * 12, "decision": "hold", "request": "req_1", "kind": "thumb"}


def asks_as_somebody(function: object) -> bool:
    """True for ``(deps, actor, ...)``."""
    if not inspect.isfunction(function):
        return False
    hints = list(inspect.get_annotations(inspect.unwrap(function)).values())[:2]
    return hints == ["Dependencies", "Actor"]


def used(module: str) -> Iterator[tuple[object, bool]]:
    """What a module takes from the use cases, by name or as an attribute of one of their modules, and whether that is called there."""
    tree = ast.parse(Path(str(importlib.import_module(module).__file__)).read_text(encoding="utf-8"))
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    taken: dict[str, object] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tailorbird.usecases"):
            taken |= {alias.asname or alias.name: taken_from(str(node.module), alias.name) for alias in node.names}
    for node in list(ast.walk(tree)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and inspect.ismodule(taken.get(node.value.id)):
            taken[ast.unparse(node)] = getattr(taken[node.value.id], node.attr)
    for name, found in taken.items():
        yield found, name in called


def taken_from(module: str, name: str) -> object:
    try:
        return getattr(importlib.import_module(module), name)
    except AttributeError:
        return importlib.import_module(f"{module}.{name}")


def modules_of(package: Any) -> list[str]:
    return [f"{package.__name__}.{file.stem}" for file in sorted(Path(package.__path__[0]).glob("*.py")) if file.stem != "__init__"]


@pytest.mark.parametrize("module", [*modules_of(cli), *modules_of(sdk)])
def test_what_is_called_here_is_checked(module: str) -> None:
    """A use case is asked by ``perform``: called directly it makes no check of its own."""
    for found, is_called in used(module):
        assert not (isinstance(found, UseCase) and is_called), found
        if asks_as_somebody(found) and found is not perform:
            assert local_name(found) in LOCAL


def local_name(function: Any) -> str:
    return f"{function.__module__.removeprefix('tailorbird.usecases.')}.{function.__qualname__}"


def local_functions() -> list[tuple[str, Callable[..., object]]]:
    use_cases()
    found = []
    for name in sorted(LOCAL):
        module, _, function = name.rpartition(".")
        found.append((name, getattr(importlib.import_module(f"tailorbird.usecases.{module}"), function)))
    return found


@pytest.mark.parametrize(("name", "function"), local_functions())
def test_a_viewer_is_refused_and_the_log_tells(deps: Dependencies, name: str, function: Callable[..., object]) -> None:
    assert Role.VIEWER not in auth.ROLES_FOR[LOCAL[name]]
    given = [None] * (len(inspect.signature(function).parameters) - 2)
    with pytest.raises(Forbidden) as refused:
        function(deps, act(deps, "viewer"), *given)
    assert refused.value.error_code == "role_missing"
    assert last_denied(deps) == ("viewer", LOCAL[name].value)


def last_denied(deps: Dependencies) -> tuple[str, object]:
    with deps.ledger.work("acme", write=False) as work:
        event = work.events.latest(1)[0].event
    assert event.kind == "access.denied"
    return event.actor, event.data["action"]


def calls() -> list[str]:
    return sorted(name for name, value in vars(Workspace).items() if callable(value) and not name.startswith("_"))


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    use_twins(monkeypatch)
    Workspace.create(tmp_path / ".tailorbird", tenant="acme").close()
    with Workspace(tmp_path / ".tailorbird", identity="viewer") as made:
        yield made


def test_a_workspace_of_a_viewer_changes_nothing(workspace: Workspace, tmp_path: Path) -> None:
    objective = write_objective(tmp_path / "job")
    given = GIVEN | {"objective": objective, "digest": "0" * 12, "alias": "desk", "value": "up", "reason": "no"}
    for name in calls():
        if name in OPEN | REMOTE:
            continue
        call = getattr(workspace, name)
        wanted = [p.name for p in inspect.signature(call).parameters.values() if p.default is p.empty]
        with pytest.raises((Forbidden, NotFound)) as refused:
            call(*[given[each] for each in wanted])
        everybody = name == "feedback"  # any role may say what an answer was worth: there is none
        assert refused.value.error_code == ("not_found" if everybody else "role_missing"), name
    assert list(workspace.runs()) == []


def test_a_viewer_leaves_no_climb_to_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    use_twins(monkeypatch)
    monkeypatch.chdir(tmp_path)
    objective = write_objective(tmp_path / "job")
    Workspace.create(tmp_path / ".tailorbird", tenant="acme").close()
    for options in ((), ("--tenants", "acme")):
        with pytest.raises(SystemExit) as ended:
            main(["adapt", str(objective), "--detach", *options, "--as", "viewer"])
        assert ended.value.code != 0
    with Workspace(tmp_path / ".tailorbird") as made:
        assert list(made.runs()) == []
        assert last_denied(made._session.deps) == ("viewer", "objective.plan")
    capsys.readouterr()
