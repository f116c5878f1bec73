"""Tasks of lm-evaluation-harness as probes of retention. What needs the harness itself is marked so (make harness)."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import yaml

from tailorbird import wiring
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import InvalidInput, Unavailable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import PromptSpec
from tailorbird.domain.value import Digest
from tailorbird.evaluation import measure_retention
from tailorbird.testing import MemoryEngine
from tailorbird.text.harness_tasks import digest_of_task, read_task

CHOOSING = {
    "task": "towns",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "towns.jsonl"}},
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{answer}}",
    "metric_list": [{"metric": "acc"}],
}
#: The twin engine finds likely what the question says: it answers the first two right.
ROWS = [
    {"question": "is it Ulm or not", "choices": ["Ulm", "Rome"], "answer": 0},
    {"question": "is it Bonn or not", "choices": ["Rome", "Bonn"], "answer": 1},
    {"question": "is it Bonn or not", "choices": ["Rome", "Bonn"], "answer": 0},
]


def write_task(folder: Path, **changes: object) -> Path:
    (folder / "towns.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    path = folder / "towns.yaml"
    path.write_text(yaml.safe_dump(CHOOSING | changes))
    return path


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"dataset_path": "someone/dataset"}, "its data do not lie beside it"),
        ({"dataset_kwargs": {"data_files": {"test": "../elsewhere.jsonl"}}}, "there is no file elsewhere.jsonl"),
        ({"dataset_kwargs": {}}, "names no data files"),
        ({"output_type": "loglikelihood_rolling"}, "its output_type is 'loglikelihood_rolling'"),
        ({"task": 3}, "it names no task"),
    ],
)
def test_a_task_that_reaches_beyond_its_folder_is_refused(tmp_path: Path, changes: dict[str, object], what: str) -> None:
    with pytest.raises(InvalidInput, match=what) as refused:
        read_task(write_task(tmp_path, **changes))
    assert refused.value.error_code == "harness_task"


def test_a_task_with_functions_is_refused(tmp_path: Path) -> None:
    path = write_task(tmp_path)
    path.write_text(path.read_text() + "process_docs: !function utils.process\n")
    with pytest.raises(InvalidInput, match="no plain YAML"):
        read_task(path)


def test_other_questions_are_another_task(tmp_path: Path) -> None:
    path = write_task(tmp_path)
    before = digest_of_task(path)
    (tmp_path / "towns.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    assert digest_of_task(path) != before


def test_without_the_harness_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("lm_eval", "tailorbird.integrations.lm_eval:open_harness", "tailorbird.harness")
    monkeypatch.setattr(wiring, "entry_points", lambda **_: [entry])
    for name in [name for name in sys.modules if name.startswith(("lm_eval", "tailorbird.integrations.lm_eval"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(Unavailable, match="needs the package lm_eval") as missing:
        wiring._harness()
    assert (missing.value.error_code, missing.value.hint) == ("package_missing", "pip install 'tailorbird[harness]'")


def loaded(engine: MemoryEngine, name: str) -> Digest:
    servable = Servable(
        id=digest_of({"name": name}),
        tenant="acme",
        task=TaskKind.GENERATE,
        base="",
        adapter=None,
        weights=None,
        prompt=PromptSpec(instruction=""),
    )
    engine.load(servable)
    return servable.id


@pytest.mark.harness
def test_questions_of_a_task_are_answered_by_the_engine(tmp_path: Path) -> None:
    from tailorbird.integrations.lm_eval import open_harness

    engine, path = MemoryEngine(), write_task(tmp_path)
    rights = open_harness().ask(engine, loaded(engine, "base"), [path], lambda _done, _all: None)
    assert rights == {"towns": {"towns:0": True, "towns:1": True, "towns:2": False}}


@pytest.mark.harness
def test_written_answers_are_matched_and_cut_where_the_task_says(tmp_path: Path) -> None:
    from tailorbird.integrations.lm_eval import open_harness

    changes = {
        "output_type": "generate_until",
        "doc_to_choice": None,
        "doc_to_target": "{{choices[0]}}",
        "generation_kwargs": {"until": ["\n"]},
        "metric_list": [{"metric": "exact_match"}],
    }
    engine, path = MemoryEngine(), write_task(tmp_path, **{key: value for key, value in changes.items() if value is not None})
    content = yaml.safe_load(path.read_text())
    del content["doc_to_choice"]
    path.write_text(yaml.safe_dump(content))
    rights = open_harness().ask(engine, loaded(engine, "base"), [path], lambda _done, _all: None)
    assert rights == {"towns": {f"towns:{place}": False for place in range(3)}}


def test_further_questions_count_like_probes() -> None:
    engine = MemoryEngine()
    base, candidate = loaded(engine, "base"), loaded(engine, "candidate")

    def more(servable: Digest, _: Callable[[int, int], None]) -> dict[str, dict[str, bool]]:
        return {"towns": {f"towns:{place}": servable == base or place > 1 for place in range(10)}}

    without = measure_retention(engine, base, candidate, 0.9, lambda _done, _all: None)
    found = measure_retention(engine, base, candidate, 0.9, lambda _done, _all: None, more)
    towns = found.families[-1]
    assert (towns.family, towns.n, towns.base, towns.candidate) == ("towns", 10, 1.0, 0.8)
    assert found.overall.n == without.overall.n + 10
    assert found.lost == without.lost + 2
