"""Checks the shape of the code: lengths of functions, classes and files, names of files.

In: src/tailorbird. Out: a line for each breach, and exit status 1 when there is one. With --report: the figures.
"""

import ast
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "src" / "tailorbird"
LONGEST_FUNCTION, LONGEST_P95, LONGEST_CLASS, LONGEST_FILE, PORT_METHODS = 80, 60, 400, 900, 8
VAGUE = {"utils.py", "util.py", "helpers.py", "helper.py", "common.py", "misc.py", "base.py"}
DEFINITION = (ast.FunctionDef, ast.AsyncFunctionDef)


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    documented = ast.get_docstring(node, clean=False) is not None
    docstring = node.body[0].end_lineno - node.body[0].lineno + 1 if documented else 0
    return node.end_lineno - node.lineno + 1 - docstring


def breaches(path: Path, tree: ast.Module, lines: int) -> Iterator[str]:
    """What is wrong with one file."""
    name = path.relative_to(ROOT)
    if path.name in VAGUE:
        yield f"{name}: name it by what it holds"
    if lines > LONGEST_FILE:
        yield f"{name}: {lines} lines (at most {LONGEST_FILE})"
    if ast.get_docstring(tree) is None:
        yield f"{name}: no module docstring"
    for node in ast.walk(tree):
        if isinstance(node, DEFINITION) and length(node) > LONGEST_FUNCTION:
            yield f"{name}:{node.lineno} {node.name}: {length(node)} lines (at most {LONGEST_FUNCTION})"
        if isinstance(node, ast.ClassDef):
            yield from class_breaches(name, node)


def class_breaches(name: Path, node: ast.ClassDef) -> Iterator[str]:
    """What is wrong with one class."""
    lines = node.end_lineno - node.lineno + 1
    if lines > LONGEST_CLASS:
        yield f"{name}:{node.lineno} {node.name}: {lines} lines (at most {LONGEST_CLASS})"
    methods = sum(isinstance(item, DEFINITION) for item in node.body)
    if name.parts[0] == "ports" and methods > PORT_METHODS:
        yield f"{name}:{node.lineno} {node.name}: {methods} methods (a port has at most {PORT_METHODS})"


def main() -> int:
    """Checks the whole package."""
    found, functions, files = [], [], []
    for path in sorted(ROOT.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        files.append((text.count("\n"), str(path.relative_to(ROOT))))
        functions += [length(node) for node in ast.walk(tree) if isinstance(node, DEFINITION)]
        found += breaches(path, tree, files[-1][0])
    p95 = sorted(functions)[round(0.95 * (len(functions) - 1))]
    if p95 > LONGEST_P95:
        found.append(f"95th percentile of function length is {p95} (at most {LONGEST_P95})")
    print("\n".join(found), end="\n" if found else "")
    median, (lines, name) = statistics.median(functions), max(files)
    print(f"{len(files)} files, {len(functions)} functions, median {median} lines, p95 {p95}, longest file {name} ({lines})")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
