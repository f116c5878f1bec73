"""Every place that builds or reads a model by transformers does so under the lock of its process."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "tailorbird"
#: What has these methods, too, and builds no model.
OTHERS = {"AutoConfig", "AutoTokenizer", "PreTrainedTokenizerFast", "PeftModel"}
#: Functions that are only ever called inside ``quiet``, which holds the lock.
INSIDE = {
    ("inference/encoder_converter.py", "read_model"),
    ("inference/model_converter.py", "_read"),
    ("inference/model_converter.py", "_read_gguf"),
}


def loads(node: ast.AST, function: str = "", held: bool = False) -> Iterator[str]:
    """Functions below ``node`` that load a model where no lock is held."""
    if isinstance(node, ast.FunctionDef):
        function, held = node.name, False
    if isinstance(node, ast.With):
        held = held or any(ast.unparse(item.context_expr) in ("model_load", "quiet()") for item in node.items)
    loading = isinstance(node, ast.Attribute) and node.attr in ("from_pretrained", "from_config") and ast.unparse(node.value) not in OTHERS
    if loading and not held:
        yield function
    for child in ast.iter_child_nodes(node):
        yield from loads(child, function, held)


def test_a_model_is_loaded_under_the_lock() -> None:
    found = {
        (str(path.relative_to(SOURCE)), function)
        for path in SOURCE.rglob("*.py")
        for function in loads(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == INSIDE


@pytest.mark.parametrize("lock", ["model_load", "quiet()", "model_load, torch.device('meta')"])
def test_a_load_without_the_lock_is_recognised(lock: str) -> None:
    assert list(loads(ast.parse("def read():\n    AutoModel.from_pretrained(folder)"))) == ["read"]
    assert list(loads(ast.parse(f"def read():\n    with {lock}:\n        AutoModel.from_pretrained(folder)"))) == []
