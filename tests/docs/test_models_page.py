"""The page of architectures says what its committed results say, and by which run each was measured."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "benchmarks" / "models")]

from page import RESULTS, page  # noqa: E402
from result_file import read_rows, write_rows  # noqa: E402

OLD, NEW = (
    {"at": at, "commit": commit, "transformers": "5.24.0"} for at, commit in (("2026-11-27", "aaa"), ("2026-11-28T01:00:00", "bbb"))
)


@pytest.fixture(scope="module")
def committed() -> tuple[dict[str, Any], dict[str, Any]]:
    """Rows of training and of inference."""
    training, inference = (read_rows(RESULTS / f"{part}.json") for part in ("training", "inference"))
    return training, inference


def test_the_page_is_the_one_that_the_results_give(committed: tuple[dict[str, Any], dict[str, Any]]) -> None:
    assert (ROOT / "docs" / "reference" / "models.md").read_text(encoding="utf-8") == page(*committed)


def test_a_partial_run_dates_no_other_row_anew(tmp_path: Path) -> None:
    file = tmp_path / "results" / "training.json"
    write_rows(file, {"qwen3": {"gradients": True, "run": OLD}, "gemma": {"gradients": True, "run": OLD}}, {"bars": {}})
    write_rows(file, read_rows(file) | {"qwen3": {"gradients": False, "run": NEW}}, {"bars": {}})
    assert {name: row["run"] for name, row in read_rows(file).items()} == {"gemma": OLD, "qwen3": NEW}
    told = page(read_rows(file), {})
    assert "1 architecture measured 2026-11-27, transformers 5.24.0, commit aaa" in " ".join(told.split())
    assert "1 architecture measured 2026-11-28, transformers 5.24.0, commit bbb" in " ".join(told.split())


def test_an_encoder_whose_texts_differ_in_a_batch_is_not_among_those_alike(committed: tuple[dict[str, Any], dict[str, Any]]) -> None:
    training, inference = committed
    told = page(training, inference | {"bert": inference["bert"] | {"mixed_equals_alone": False}})
    assert "- `bert`: mixed_equals_alone: differs" in told
    assert "`bert`" not in told.partition("## Encoders")[2]
    assert "`mpnet`" in told.partition("## Encoders")[2]
