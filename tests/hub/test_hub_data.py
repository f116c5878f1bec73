"""Data sets of the hub, through the real library and a hub on the loopback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from support.loopback_hub import ask, running

SCRIPT = """
import json, sys
from pathlib import Path
from tailorbird.data import fingerprint_sources, read_sources
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.objective import Objective
from tailorbird.system.machine import GIB, PeakMemory

def outcome(address):
    objective = Objective.model_validate_json(json.dumps({
        "name": "desk", "tenant": "acme", "business": {"goal": "g", "owner": "o", "risk": "minimal"},
        "task": {"kind": "classify", "instruction": "i"}, "kpis": [{"metric": "accuracy", "target": 0.5}],
        "data": [{"path": address, "source": {"origin": "o", "license": "l"}}],
    }))
    try:
        found = read_sources(objective, Path("."))
        assert found.files == fingerprint_sources(objective, Path("."))
    except TailorbirdError as error:
        return {"code": error.error_code, "status": error.status, "hint": error.hint}
    return {"rows": [[row.text, row.target, row.provenance.line] for row in found.rows], "files": found.files}

peak = PeakMemory()
told = {address: outcome(address) for address in sys.argv[1:]}
print(json.dumps(told | {"peak": peak.gib * GIB}))
"""

#: Address to what is wrong with it.
REFUSED = {
    "hf://datasets/acme/none": "file_missing",
    "hf://datasets/gated/desk": "file_missing",
    "hf://datasets/acme/desk@v9/train.jsonl": "file_missing",
    "hf://datasets/acme/desk/dev.jsonl": "file_missing",
    "hf://datasets/acme/desk:default/dev": "file_missing",
    "hf://datasets/acme/desk:other/train": "file_missing",
    "hf://datasets/acme/two": "data_invalid",
    "hf://datasets/acme/broken": "file_broken",
    "hf://datasets/acme/unconverted": "file_missing",
    "hf://datasets/acme/unconverted/README.md": "file_kind",
}
MEDIA, BOMB = "hf://datasets/acme/media", "hf://datasets/acme/bomb"
DESK, TEST, CLASSES = "hf://datasets/acme/desk", "hf://datasets/acme/desk:default/test", "hf://datasets/acme/classes"
FILE, ONE = "hf://datasets/acme/desk@v1/train.jsonl", "hf://datasets/acme/two:b/train"


def fill(root: Path, secret: str) -> None:
    def folder(name: str) -> Path:
        made = root / "datasets/acme" / name
        made.mkdir(parents=True)
        return made

    def rows(split: str, start: int, count: int) -> pa.Table:
        return pa.table({"text": [f"{split} {n}" for n in range(start, start + count)], "label": ["a", "b"] * (count // 2)})

    parquet.write_table(rows("train", 0, 8), folder("desk/default/train") / "0000.parquet")
    parquet.write_table(rows("train", 8, 8), root / "datasets/acme/desk/default/train/0001.parquet")
    parquet.write_table(rows("test", 0, 4), folder("desk/default/test") / "0000.parquet")
    (root / "datasets/acme/desk/train.jsonl").write_text('{"text": "hello", "label": "a"}\n{"text": "bye", "label": "b"}\n')
    for config in "ab":
        parquet.write_table(rows(config, 0, 4), folder(f"two/{config}/train") / "0000.parquet")
    features = {"label": {"names": ["refund", "address"], "_type": "ClassLabel"}, "text": {"dtype": "string", "_type": "Value"}}
    table = pa.table({"text": [f"message {n}" for n in range(4)], "label": [0, 1, 1, 0]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, folder("classes/default/train") / "0000.parquet")
    (folder("broken/default/train") / "0000.parquet").write_bytes(b"PAR1 and no more")
    (folder("unconverted") / "README.md").write_text("no data here")
    pictures = pa.table({"text": [{"bytes": None, "path": secret}] * 2, "label": ["a", "b"]})
    parquet.write_table(pictures, folder("media/default/train") / "0000.parquet")
    size = 20_000_000
    values = pa.DictionaryArray.from_arrays(pa.array(np.zeros(size, np.int8)), pa.array(["x" * 200]))
    lists = pa.ListArray.from_arrays(pa.array([0, size, size], pa.int32()), values)
    bomb = pa.table({"text": lists, "label": ["a", "b"]})
    parquet.write_table(bomb, folder("bomb/default/train") / "0000.parquet", compression="zstd")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("hub")
    with running(root) as hub:
        fill(root, f"{hub.endpoint}/secret.csv")
        addresses = (DESK, TEST, CLASSES, FILE, ONE, MEDIA, BOMB, *REFUSED)
        found: dict[str, Any] = ask(SCRIPT, *addresses, HF_ENDPOINT=hub.endpoint, HF_HOME=str(root / "home"))
    assert not any("secret.csv" in path or "telemetry" in path for path in hub.asked)
    return found


def test_rows_of_a_split_are_read(outcomes: dict[str, Any]) -> None:
    assert outcomes[DESK]["rows"] == [[f"train {n}", "ab"[n % 2], n + 1] for n in range(16)]
    assert outcomes[TEST]["rows"] == [[f"test {n}", "ab"[n % 2], n + 1] for n in range(4)]
    assert outcomes[ONE]["rows"][0] == ["b 0", "a", 1]
    assert outcomes[DESK]["files"].keys() == {DESK}


def test_labels_kept_as_numbers_get_their_names(outcomes: dict[str, Any]) -> None:
    assert [label for _, label, _ in outcomes[CLASSES]["rows"]] == ["refund", "address", "address", "refund"]


def test_no_path_that_a_cell_names_is_opened(outcomes: dict[str, Any]) -> None:
    """A picture holds a path, which decoding would open on this machine or in its network."""
    assert outcomes[MEDIA]["code"] == "data_invalid"


def test_few_bytes_that_stand_for_much_end_the_reader(outcomes: dict[str, Any]) -> None:
    assert outcomes[BOMB]["code"] in ("parser_memory", "parser_processor"), outcomes[BOMB]
    assert outcomes["peak"] < 700_000_000


@pytest.mark.parametrize(("address", "code"), REFUSED.items())
def test_what_the_hub_does_not_have_is_said(outcomes: dict[str, Any], address: str, code: str) -> None:
    assert (outcomes[address]["code"], outcomes[address]["status"]) == (code, 400)
    assert outcomes[address]["hint"]


@pytest.mark.parametrize("environment", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_no_hub_is_said_to_be_unreachable(tmp_path: Path, environment: dict[str, str]) -> None:
    found = ask(SCRIPT, DESK, HF_HOME=str(tmp_path), **environment)
    assert (found[DESK]["code"], found[DESK]["status"]) == ("data_unreachable", 503)
    assert "HF_HUB_OFFLINE" in found[DESK]["hint"]
