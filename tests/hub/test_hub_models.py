"""Base models of the hub, through the real library and a hub on the loopback."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from support.encoders import write_pooling
from support.loopback_hub import Hub, Repository, ask, running
from support.model_families import write_family

#: Pulls each model twice with a reader that copies, and tells what came of it.
SCRIPT = """
import json, shutil, sys
from pathlib import Path
from tailorbird.domain.errors import TailorbirdError
from tailorbird.base_models import list_models, pull

class Copying:
    def convert(self, source, target, stated=None):
        for file in source.iterdir():
            if file.is_file():
                shutil.copy(file, target)

def outcome(name, cache):
    try:
        folder = pull(name, cache, Copying)
        assert pull(name, cache, lambda: None) == folder
    except TailorbirdError as error:
        return {"code": error.error_code, "status": error.status, "hint": error.hint}
    return {"folder": folder.name, "files": sorted(path.name for path in folder.iterdir())}

cache = Path(sys.argv[1])
found = {name: outcome(name, cache) for name in sys.argv[2:]}
listed = [listing.model_dump(mode="json") for listing in list_models(cache) if listing.folder]
left = sorted(path.name for path in cache.glob(".*") if path.is_dir()) if cache.exists() else []
print(json.dumps({"found": found, "listed": listed, "left": left}))
"""

CONFIG = {
    "model_type": "llama",
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "vocab_size": 16,
    "max_position_embeddings": 64,
    "intermediate_size": 16,
    "num_attention_heads": 2,
}


def weights(size: int) -> bytes:
    """A safetensors file of one tensor with ``size`` numbers."""
    header = json.dumps({"weight": {"dtype": "F32", "shape": [size], "data_offsets": [0, 4 * size]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(4 * size)


def repository(root: Path, name: str, **files: bytes | str) -> Path:
    folder = root / "models" / name
    folder.mkdir(parents=True)
    plain: dict[str, bytes | str] = {"config.json": json.dumps(CONFIG), "tokenizer.json": "{}", "chat_template.jinja": "{{ messages }}"}
    for file, content in (plain | files).items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def fill(root: Path) -> Path:
    code = {"pickle.bin": b"x", "modeling_tiny.py": "raise SystemExit", "original/model.safetensors": weights(9), "README.md": "# tiny"}
    tiny = repository(root, "acme/Tiny", **{"model.safetensors": weights(6), "consolidated.safetensors": weights(7)}, **code)
    repository(root, "acme/pickled", **{"pytorch_model.bin": b"x"})
    repository(
        root, "acme/code", **{"model.safetensors": weights(6), "config.json": json.dumps(CONFIG | {"auto_map": {"AutoModel": "e.M"}})}
    )
    repository(root, "acme/empty")
    return tiny


REFUSED = {
    "hf://acme/none": "model_unknown",
    "hf://acme/Tiny@v9": "model_unknown",
    "hf://gated/tiny": "model_gated",
    "hf://acme/pickled": "model_unsafe",
    "hf://acme/code": "model_unsafe",
    "hf://acme/empty": "model_unreadable",
    "hf://acme": "model_unknown",
    "hf://datasets/acme": "model_unknown",
    "hf://acme/../tiny": "model_unknown",
}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Hub, Path]:
    root = tmp_path_factory.mktemp("hub")
    tiny = fill(root)
    with running(root) as hub:
        names = ("hf://acme/Tiny", "hf://acme/Tiny@v1", *REFUSED)
        return ask(SCRIPT, str(root / "cache"), *names, HF_ENDPOINT=hub.endpoint, HF_HOME=str(root / "home")), hub, tiny


def test_a_model_is_pulled_without_pickles_and_code(asked: tuple[dict[str, Any], Hub, Path]) -> None:
    answers, hub, _ = asked
    found = answers["found"]["hf://acme/Tiny"]
    assert found["files"] == ["chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json"]
    assert found["folder"].startswith("acme--tiny-")
    assert not any(path.startswith("GET") and path.endswith((".bin", ".py", "consolidated.safetensors")) for path in hub.asked)
    assert not any("/original/" in path or "agent-harnesses" in path for path in hub.asked)
    assert not any("torch" in agent for agent in hub.agents)


@pytest.mark.parametrize(("name", "code"), REFUSED.items())
def test_what_cannot_be_used_is_refused(asked: tuple[dict[str, Any], Hub, Path], name: str, code: str) -> None:
    answer = asked[0]["found"][name]
    assert (answer["code"], answer["status"]) == (code, 400)
    assert answer["hint"]


def test_weights_that_are_refused_are_not_downloaded(asked: tuple[dict[str, Any], Hub, Path]) -> None:
    assert not any("acme/code/resolve" in path and path.endswith(".safetensors") for path in asked[1].asked)


def test_a_name_stays_with_its_commit_and_needs_the_hub_once(tmp_path: Path) -> None:
    tiny = fill(tmp_path)
    with running(tmp_path) as hub:
        settings = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home")}
        first = ask(SCRIPT, str(tmp_path / "cache"), "hf://acme/Tiny", **settings)
        (tiny / "model.safetensors").write_bytes(weights(12))
        moved = Repository(tiny).commit
        again = ask(SCRIPT, str(tmp_path / "cache"), "hf://acme/Tiny", f"hf://acme/Tiny@{moved}", **settings)
    name = "hf://acme/Tiny"
    assert again["found"][name] == first["found"][name] != again["found"][f"{name}@{moved}"]
    assert first["left"] == again["left"] == []
    offline = ask(SCRIPT, str(tmp_path / "cache"), name, "hf://acme/other", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "home"))
    assert offline["found"][name] == first["found"][name]
    assert (offline["found"]["hf://acme/other"]["code"], offline["found"]["hf://acme/other"]["status"]) == ("hub_unreachable", 503)
    nowhere = ask(SCRIPT, str(tmp_path / "cache"), "hf://acme/other", HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path / "home"))
    assert nowhere["found"]["hf://acme/other"]["code"] == "hub_unreachable"


def test_weights_that_are_not_those_listed_are_refused(tmp_path: Path) -> None:
    fill(tmp_path)
    with running(tmp_path) as hub:
        hub.served["model.safetensors"] = weights(6)[:-1] + b"!"
        found = ask(SCRIPT, str(tmp_path / "cache"), "hf://acme/Tiny", HF_ENDPOINT=hub.endpoint, HF_HOME=str(tmp_path / "home"))
        assert found["found"]["hf://acme/Tiny"]["code"] == "model_corrupt"
        hub.served.clear()
        found = ask(SCRIPT, str(tmp_path / "cache"), "hf://acme/Tiny", HF_ENDPOINT=hub.endpoint, HF_HOME=str(tmp_path / "home"))
        assert "folder" in found["found"]["hf://acme/Tiny"]
    assert found["left"] == []


#: Pulls a model, and reads a data set, for a tenant whose place names a credential.
BOUNDED = """
import json, shutil, sys
from pathlib import Path
from tailorbird.data.readers.formats import read_records
from tailorbird.data.readers.source_resolver import open_path
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.endpoint import AllowedPlace
from tailorbird.system.outward_access import SourceAccess, restrict_sources
from tailorbird.base_models import known_facts, pull

class Copying:
    def convert(self, source, target, stated=None):
        for file in source.iterdir():
            if file.is_file():
                shutil.copy(file, target)

cache, credential = Path(sys.argv[1]), sys.argv[2]
prefixes = ("hf://acme", "hf://datasets/acme") if credential else ()
places = tuple(AllowedPlace(prefix=prefix, credential=credential) for prefix in prefixes)
told = {}
with restrict_sources(SourceAccess("acme", places, {"theirs": {"token": "hf_theirs"}})):
    try:
        known_facts("hf://acme/Tiny", cache)
        told["folder"] = str(pull("hf://acme/Tiny", cache, Copying).relative_to(cache).parent)
        with open_path("hf://datasets/acme/desk/train.jsonl", cache) as file:
            told["rows"] = len([*read_records(file, ["text"])])
    except TailorbirdError as error:
        told["code"] = error.error_code
print(json.dumps(told))
"""


@pytest.mark.parametrize(
    ("credential", "folder", "token"),
    [("none", "by-credential/none", None), ("worker", ".", "Bearer hf_worker"), ("theirs", "by-credential/theirs", "Bearer hf_theirs")],
)
def test_submitted_work_reads_the_hub_with_the_credential_of_its_place(
    tmp_path: Path, credential: str, folder: str, token: str | None
) -> None:
    """And what was fetched with one credential is not found by who has another."""
    fill(tmp_path)
    desk = tmp_path / "datasets/acme/desk"
    desk.mkdir(parents=True)
    (desk / "train.jsonl").write_text('{"text": "hello"}\n' * 3)
    with running(tmp_path) as hub:
        given = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_worker"}
        assert ask(BOUNDED, str(tmp_path / "cache"), credential, **given) == {"folder": folder, "rows": 3}
        assert hub.tokens == {token}


def test_without_a_place_the_hub_is_not_asked(tmp_path: Path) -> None:
    fill(tmp_path)
    with running(tmp_path) as hub:
        found = ask(BOUNDED, str(tmp_path / "cache"), "", HF_ENDPOINT=hub.endpoint, HF_HOME=str(tmp_path / "home"), HF_TOKEN="hf_worker")
        assert (found, hub.asked) == ({"code": "forbidden"}, [])


#: Pulls an encoder by its name of the catalogue, and embeds.
ENCODER = """
import json, sys
from pathlib import Path
from tailorbird.base_models import list_models, pull, register_base
from tailorbird.inference import open_encoder, open_model_reader
from tailorbird.ledger import open_artifacts

cache = Path(sys.argv[1])
folder = pull(sys.argv[2], cache, open_model_reader)
assert pull(f"hf://{sys.argv[3]}", cache, lambda: None) == folder
base = register_base(folder, sys.argv[2], open_artifacts(str(cache / "artifacts"), cache / "read"), cache)
listed = [entry.name for entry in list_models(cache) if entry.folder == folder]
width = open_encoder().embed(folder, ["far"], purpose="query").shape[1]
here = sorted(path.name for path in folder.iterdir())
print(json.dumps({"base": base.model_dump(mode="json"), "listed": listed, "width": width, "here": here}))
"""


def test_an_encoder_of_the_catalogue_comes_from_the_hub(tmp_path: Path) -> None:
    source = write_pooling(write_family(tmp_path / "models" / "BAAI" / "bge-small-en-v1.5", "bert"), "cls")
    (source / "encoder.json").unlink()
    with running(tmp_path) as hub:
        named = (str(tmp_path / "cache"), "bge-small-en-v1.5", "BAAI/bge-small-en-v1.5")
        found = ask(ENCODER, *named, HF_ENDPOINT=hub.endpoint, HF_HOME=str(tmp_path / "home"))
    assert found["listed"] == ["bge-small-en-v1.5"]
    assert found["width"] == 32
    assert {"encoder.json", "model.safetensors"} <= set(found["here"])
    assert (found["base"]["name"], found["base"]["license"]) == (f"hf://{named[2]}@{Repository(source).commit}", "apache-2.0")
    encoder = found["base"]["encoder"]
    assert encoder["pooling"] == "cls"
    assert encoder["prefixes"]["query"].startswith("Represent this sentence")
