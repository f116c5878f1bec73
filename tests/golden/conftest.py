"""One job from data to answers, by the command line and HTTP alone; what it leaves is compared with files.

``pytest tests/golden --write-golden`` writes the files anew: read the difference before it is committed.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support import tiny_models
from support.e2e import ROOT, Desk, serving, write_objective, write_rows
from support.golden import Story, differences

HERE = Path(__file__).parent
#: Intent of the example to a label; short ones, so that a tiny model does not go by their length.
LABELS = {"account_login": "login", "change_address": "address", "refund_missing": "refund"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-golden", action="store_true", help="write the golden files anew")


@pytest.fixture(scope="session")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """All that the tests here compare is made once."""
    folder = tmp_path_factory.mktemp("golden")
    (folder / "models").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny_models, "SIZES", tiny_models.SIZES | {"hidden_size": 32, "num_hidden_layers": 2, "max_position_embeddings": 512})
        tiny_models.write_model(folder / "tiny")
    (folder / "tiny" / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n", encoding="utf-8")
    with (ROOT / "examples" / "support_desk" / "messages.csv").open(newline="", encoding="utf-8") as file:
        messages = [(row["text"], row["intent"]) for row in csv.DictReader(file) if len(row["text"]) < 150]
    write_rows(
        folder / "rows.csv", [(text, LABELS[it]) for intent in LABELS for text, it in [each for each in messages if each[1] == intent][:80]]
    )
    common: dict[str, Any] = {"base_model": "./tiny", "kpis": [{"metric": "accuracy", "target": 0.1}]}
    write_objective(folder, **common, name="words", ladder=["floor"]).rename(folder / "words.yaml")
    write_objective(
        folder,
        **common,
        floor="reference",
        ladder=["lora", "full"],
        lora={"epochs": 2, "rank": 8, "learning_rate": 0.02},
        full={"epochs": 2, "learning_rate": 0.01},
    )
    made = Story(Desk(folder / "workspace", folder / "models"), folder)
    with serving(made.desk) as made.url:
        yield made


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Compares a value with the file of that name: numbers within ``within``, all else exactly."""

    def compare(name: str, found: Any, within: float = 0.0) -> None:
        path = HERE / f"{name}.json"
        if request.config.getoption("write_golden", default=False):
            path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        assert differences(json.loads(path.read_text(encoding="utf-8")), found, within) == []

    return compare
