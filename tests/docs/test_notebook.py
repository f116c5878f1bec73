"""The notebook of the Python API runs from its first cell to its last, and what it stores is what such a run shows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from support.bases import place_twin, use_twins
from support.notebook import code_cells, execute, plain_text
from tailorbird.base_models import ModelCache

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NOTEBOOK = EXAMPLES / "notebook" / "first_run.ipynb"
#: Cells whose words depend on the machine and its base model.
MEASURED = {"plan", "adapt"}


@pytest.fixture(scope="module")
def notebook() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return loaded


def test_it_is_a_notebook_with_the_outputs_of_an_execution(notebook: dict[str, Any]) -> None:
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert set(notebook) == {"cells", "metadata", "nbformat", "nbformat_minor"}
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    assert [cell["execution_count"] for cell in code_cells(notebook)] == list(range(1, len(code_cells(notebook)) + 1))
    assert sum(bool(cell["outputs"]) for cell in code_cells(notebook)) >= 7


def test_it_runs_and_shows_what_it_stores(notebook: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a fresh folder. The base model, for which the ladder lists no rung, is a twin; the floor is fitted and measured."""
    shutil.copytree(EXAMPLES / "support_desk", tmp_path / "support_desk")
    (tmp_path / "notebook").mkdir()
    place_twin("smollm2-135m", ModelCache(tmp_path / "models"))
    use_twins(monkeypatch)
    monkeypatch.setenv("TAILORBIRD_MODEL_CACHE", str(tmp_path / "models"))
    shown = execute(notebook, tmp_path / "notebook")
    for cell, outputs in zip(code_cells(notebook), shown, strict=True):
        assert [sorted(one.get("data", ())) for one in outputs] == [sorted(one.get("data", ())) for one in cell["outputs"]], cell["id"]
        if cell["id"] not in MEASURED:
            assert plain_text(outputs) == plain_text(cell["outputs"]), cell["id"]
    words = {cell["id"]: plain_text(outputs) for cell, outputs in zip(code_cells(notebook), shown, strict=True)}
    assert "floor words" in words["plan"]
    assert "is signed and gated" in words["adapt"]
    assert "acme/support-desk production" in words["approve"]
