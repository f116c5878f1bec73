"""A row's answer is read by its property: ``target`` may hold what is reasoned before it."""

from __future__ import annotations

import ast
from pathlib import Path

import tailorbird

SOURCE = Path(tailorbird.__file__).parent
#: Where the whole target is meant, and why; ``data`` makes rows, and writes and compares them as they were given.
WHOLE = {
    "rungs/training.py": "reasoning is learned with the answer",
    "usecases/runs/snapshot_and_plan.py": "tokens that are learned",
    "usecases/erasure/places.py": "an erasure searches all words",
    "usecases/erasure/erase.py": "documents that a ranking names",
}
#: Texts that are no row's: turns of a conversation, demonstrations, what a reader makes rows of.
BARE = {"domain/dataset.py", "domain/prompt.py", "chat/prompts.py", "data/readers/sources.py", "data/readers/cells.py"}


def read(tree: ast.Module) -> tuple[bool, bool]:
    """Whether it reads ``row.target``, and whether it takes reasoning off a text by hand."""
    attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr == "target"]
    rows = any(isinstance(node.value, ast.Name) and node.value.id == "row" for node in attributes)
    return rows, any(isinstance(node, ast.Name) and node.id == "answer_of" for node in ast.walk(tree))


def test_nobody_reads_a_rows_target_where_its_answer_is_meant() -> None:
    found = {path.relative_to(SOURCE).as_posix(): read(ast.parse(path.read_text(encoding="utf-8"))) for path in SOURCE.rglob("*.py")}
    targets = {name for name, (rows, _) in found.items() if rows and not name.startswith("data/")}
    assert targets == set(WHOLE)
    assert {name for name, (_, bare) in found.items() if bare} <= BARE
