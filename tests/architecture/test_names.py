"""Names follow docs/design/faces.md: standard nouns for files, one class per name, environment variables read in listed places."""

from __future__ import annotations

import ast
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "tailorbird"

#: Standard nouns that end in -ing: activities that have no other name (model training, traffic monitoring, prompt rendering),
#: techniques (constrained decoding, code signing), and the wiring of a composition root.
STANDARD_NOUNS = frozenset({
    *("monitoring", "planning", "reporting", "serving", "training"),
    *("decoding", "mapping", "packing", "paging", "parsing", "ranking", "rendering", "sampling", "scheduling", "scoring"),
    *("sharding", "shipping", "signing", "streaming", "timing", "tracking", "tuning", "wiring"),
})  # fmt: skip
#: Module names that recur within one package: the native pass is the counterpart of the package of forward passes; the package of rollouts
#: still holds a module of its own name.
RECURRING_NAMES = frozenset({("inference", "forward"), ("usecases", "rollouts")})
#: Names that say nothing of what a file holds.
EMPTY_NAMES = frozenset({"base", "common", "core", "helper", "helpers", "misc", "shared", "stuff", "tools", "util", "utils"})


@cache
def trees() -> dict[Path, ast.Module]:
    """Every module of the package, parsed."""
    return {path.relative_to(PACKAGE): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def names() -> Iterator[tuple[str, str]]:
    """Top-level package and dotted path of every module and package below it."""
    for path in trees():
        parts = path.parent.parts if path.name == "__init__.py" else (*path.parent.parts, path.stem)
        if parts:
            yield parts[0], ".".join(parts)


def last(dotted: str) -> str:
    return dotted.rpartition(".")[2]


def test_files_are_named_by_nouns() -> None:
    """The last word of a name, its head noun, is neither a gerund nor a participle, but for those that the field uses as nouns."""
    heads = {dotted: last(dotted).rpartition("_")[2] for _, dotted in names()}
    assert [dotted for dotted, head in heads.items() if head.endswith(("ing", "ed")) and head not in STANDARD_NOUNS] == []


def test_names_say_what_a_file_holds() -> None:
    assert [dotted for _, dotted in names() if last(dotted) in EMPTY_NAMES] == []


def test_a_module_name_stands_once_within_a_package() -> None:
    places: dict[tuple[str, str], list[str]] = defaultdict(list)
    for package, dotted in names():
        places[package, last(dotted)].append(dotted)
    assert {key: found for key, found in places.items() if len(found) > 1 and key not in RECURRING_NAMES} == {}


def is_protocol(found: ast.ClassDef) -> bool:
    return any(ast.unparse(base).partition("[")[0] == "Protocol" for base in found.bases)


def test_a_class_name_stands_once_but_for_a_port_and_its_implementations() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path, tree in trees().items():
        for found in ast.walk(tree):
            if isinstance(found, ast.ClassDef) and not (path.parts[0] == "ports" and is_protocol(found)):
                places[found.name].append(path.as_posix())
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_the_tests_have_one_root() -> None:
    configured = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    assert configured["pythonpath"] == ["tests"]
    assert {path.parent.name for path in (ROOT / "tests").glob("*/__init__.py")} <= {"support"}


def test_what_an_assertion_asks_has_no_effect() -> None:
    """``python -O`` leaves assertions out: what they compute must be needed for nothing else."""
    plain = (ast.Compare, ast.BoolOp)
    asked = [
        f"{path}:{found.lineno} {ast.unparse(found.test)}"
        for path, tree in trees().items()
        for found in ast.walk(tree)
        if isinstance(found, ast.Assert) and not isinstance(found.test, plain) and not ast.unparse(found.test).startswith("isinstance(")
    ]
    assert asked == []
