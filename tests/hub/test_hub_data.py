"""Data sets of the hub, through the real library and a hub on the loopback."""

from __future__ import annotations

import json
import zipfile
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
from tailorbird.data.readers import hub
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

hub._SPACE = 1 << 27
peak = PeakMemory()
told = {address: outcome(address) for address in sys.argv[1:]}
print(json.dumps(told | {"peak": peak.gib * GIB}))
"""

#: Address to what is wrong with it.
REFUSED = {
    "hf://datasets/acme/none": "file_missing",
    "hf://datasets/gated/desk": "file_missing",
    "hf://datasets/acme/desk@v9": "file_missing",
    "hf://datasets/acme/desk:default/dev": "file_broken",
    "hf://datasets/acme/desk:other/train": "file_broken",
    "hf://datasets/acme/broken": "file_broken",
    "hf://datasets/acme/nothing": "file_missing",
    "hf://datasets/acme/reads-a-file": "card_outside",
    "hf://datasets/acme/reads-the-network": "card_outside",
    "hf://datasets/acme/climbs": "card_outside",
}
#: Cards that name what is not the data set's own.
CARDS = {
    "reads-a-file": "data_files: {secret}",
    "reads-the-network": "data_files: [{{split: train, path: ['{hub}/secret.csv']}}]",
    "climbs": "data_dir: ../../other",
}
#: Data sets of few bytes that stand for many, to what their reading ends with.
BOMBS = {"hf://datasets/acme/zip-bomb": {"file_expands"}, "hf://datasets/acme/parquet-bomb": {"parser_memory", "parser_processor"}}
ZIPPED = "hf://datasets/acme/zipped"
MEDIA = "hf://datasets/acme/media"
DESK, TEST, CLASSES = "hf://datasets/acme/desk", "hf://datasets/acme/desk@v1:default/test", "hf://datasets/acme/classes"


def fill(root: Path) -> None:
    for name in ("desk", "classes", "broken", "nothing"):
        (root / "datasets/acme" / name / "data").mkdir(parents=True)
    desk = root / "datasets/acme/desk/data"
    for split, count in {"train": 20, "test": 4}.items():
        rows = [{"text": f"{split} message {n}", "label": "ab"[n % 2], "other": n} for n in range(count)]
        (desk / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    features = {"label": {"names": ["refund", "address"], "_type": "ClassLabel"}, "text": {"dtype": "string", "_type": "Value"}}
    table = pa.table({"text": [f"message {n}" for n in range(4)], "label": [0, 1, 1, 0]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, root / "datasets/acme/classes/data/train-00000-of-00001.parquet")
    (root / "datasets/acme/broken/data/train.csv").write_bytes(b"text,label\ncaf\xe9,a\n")
    (root / "datasets/acme/nothing/data/README.md").write_text("no data here")


def fill_with_archives(root: Path) -> None:
    for name in ("zipped", "zip-bomb", "parquet-bomb"):
        (root / "datasets/acme" / name).mkdir()
    rows = "text,label\n" + "".join(f"message {n},{'ab'[n % 2]}\n" for n in range(6))
    with zipfile.ZipFile(root / "datasets/acme/zipped/data.zip", "w") as archive:
        archive.writestr("train.csv", rows)
    with zipfile.ZipFile(root / "datasets/acme/zip-bomb/data.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number in range(12):
            archive.writestr(f"train-{number}.csv", "text,label\n" + "x" * 20_000_000 + ",a\n")
    size = 20_000_000
    values = pa.DictionaryArray.from_arrays(pa.array(np.zeros(size, np.int8)), pa.array(["x" * 200]))
    lists = pa.ListArray.from_arrays(pa.array([0, size, size], pa.int32()), values)
    parquet.write_table(
        pa.table({"text": lists, "label": ["a", "b"]}), root / "datasets/acme/parquet-bomb/train.parquet", compression="zstd"
    )


def fill_with_cards(root: Path, hub: str) -> None:
    (root / "secret.csv").write_text("text,label\n" + "what only this machine knows,a\n" * 4)
    for name, named in CARDS.items():
        folder = root / "datasets/acme" / name
        folder.mkdir()
        card = f"---\nconfigs:\n- config_name: default\n  {named.format(secret=root / 'secret.csv', hub=hub)}\n---\n# A data set\n"
        (folder / "README.md").write_text(card)
        (folder / "train.csv").write_text("text,label\nhello,a\n")
    media = root / "datasets/acme/media"
    media.mkdir()
    features = "dataset_info:\n  features:\n  - name: text\n    dtype: image\n  - name: label\n    dtype: string\n"
    (media / "README.md").write_text(f"---\n{features}---\n")
    rows = [{"text": f"{hub}/secret.csv", "label": "a"}, {"text": str(root / "secret.csv"), "label": "b"}]
    (media / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("hub")
    fill(root)
    fill_with_archives(root)
    with running(root) as hub:
        fill_with_cards(root, hub.endpoint)
        found: dict[str, Any] = ask(
            SCRIPT, DESK, TEST, CLASSES, MEDIA, ZIPPED, *BOMBS, *REFUSED, HF_ENDPOINT=hub.endpoint, HF_HOME=str(root / "home")
        )
    assert not any("secret.csv" in path for path in hub.asked), "a card had this machine ask the network"
    assert not any("agent-harnesses" in path or "telemetry" in path for path in hub.asked)
    assert not any(path.endswith(".py") and path.startswith("GET") for path in hub.asked)
    return found


def test_rows_of_a_split_are_read(outcomes: dict[str, Any]) -> None:
    assert outcomes[DESK]["rows"] == [[f"train message {n}", "ab"[n % 2], n + 1] for n in range(20)]
    assert outcomes[TEST]["rows"] == [[f"test message {n}", "ab"[n % 2], n + 1] for n in range(4)]
    assert outcomes[DESK]["files"].keys() == {DESK}
    assert outcomes[DESK]["files"][DESK] != outcomes[TEST]["files"][TEST]


def test_labels_kept_as_numbers_get_their_names(outcomes: dict[str, Any]) -> None:
    assert [label for _, label, _ in outcomes[CLASSES]["rows"]] == ["refund", "address", "address", "refund"]


def test_no_path_that_a_cell_names_is_opened(outcomes: dict[str, Any]) -> None:
    """A column of pictures holds paths, which decoding would open on this machine or in its network."""
    assert outcomes[MEDIA]["code"] == "mostly_quarantined"


def test_archives_are_unpacked(outcomes: dict[str, Any]) -> None:
    assert outcomes[ZIPPED]["rows"] == [[f"message {n}", "ab"[n % 2], n + 1] for n in range(6)]


@pytest.mark.parametrize(("address", "codes"), BOMBS.items())
def test_few_bytes_that_stand_for_much_end_a_confined_process_and_not_the_worker(
    outcomes: dict[str, Any], address: str, codes: set[str]
) -> None:
    assert outcomes[address]["code"] in codes, outcomes[address]
    assert outcomes["peak"] < 700_000_000


@pytest.mark.parametrize(("address", "code"), REFUSED.items())
def test_what_the_hub_does_not_have_is_said(outcomes: dict[str, Any], address: str, code: str) -> None:
    assert (outcomes[address]["code"], outcomes[address]["status"]) == (code, 400)
    assert outcomes[address]["hint"]


@pytest.mark.parametrize("environment", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}])
def test_no_hub_is_said_to_be_unreachable(tmp_path: Path, environment: dict[str, str]) -> None:
    found = ask(SCRIPT, DESK, HF_HOME=str(tmp_path), **environment)
    assert (found[DESK]["code"], found[DESK]["status"]) == ("hub_unreachable", 503)
    assert "HF_HUB_OFFLINE" in found[DESK]["hint"]
