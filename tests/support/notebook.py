"""Notebooks executed without Jupyter: code cells in order, in one namespace, with the outputs that Jupyter would store.

Run on a notebook as a program, it executes it there and stores the outputs in the file.
"""

from __future__ import annotations

import ast
import json
import os
import re
import sys
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

#: What differs from one execution to the next.
_VOLATILE = re.compile(r"(?:sha256:)?\b[0-9a-f]{12,64}\b|\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::[\d.]+)?|\d[\d.,]*|\s+")


def execute(notebook: dict[str, Any], folder: Path) -> list[list[dict[str, Any]]]:
    """The outputs of each code cell, executed in ``folder``. Raises what a cell raises."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    with chdir(folder):
        return [_execute_cell("".join(cell["source"]), number, namespace) for number, cell in enumerate(code_cells(notebook), start=1)]


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """The cells that are executed."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def plain_text(outputs: list[dict[str, Any]]) -> str:
    """What a cell's outputs say, without digests, times and numbers."""
    texts = ["".join(output.get("text") or output["data"]["text/plain"]) for output in outputs]
    return _VOLATILE.sub(" ", " ".join(texts))


def _execute_cell(source: str, number: int, namespace: dict[str, Any]) -> list[dict[str, Any]]:
    """As Jupyter does: the statements, and the value of a last expression."""
    tree = ast.parse(source)
    last = ast.Expression(tree.body.pop().value) if isinstance(tree.body[-1], ast.Expr) else None  # type: ignore[attr-defined]
    printed, value = StringIO(), None
    with redirect_stdout(printed):
        exec(compile(tree, f"<cell {number}>", "exec"), namespace)
        if last is not None:
            value = eval(compile(last, f"<cell {number}>", "eval"), namespace)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": _lines(printed.getvalue())})
    if value is not None:
        shown = {"text/plain": _lines(repr(value))}
        if hasattr(value, "_repr_html_"):
            shown["text/html"] = _lines(value._repr_html_())
        outputs.append({"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": shown})
    return outputs


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def main(path: Path, folder: Path) -> None:
    """Executes the notebook at ``path`` in ``folder``, and stores the outputs."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for number, (cell, outputs) in enumerate(zip(code_cells(notebook), execute(notebook, folder), strict=True), start=1):
        cell["execution_count"], cell["outputs"] = number, outputs
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("TAILORBIRD_FETCH_ENCODER", "false")
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]))
