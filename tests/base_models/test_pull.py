"""Pulling makes each model once, whole or not at all, and refuses what could run code."""

from __future__ import annotations

import json
import multiprocessing
import threading
from pathlib import Path

import pytest

from tailorbird.base_models import ModelCache, catalogue, known_facts, list_models, pull, register_base
from tailorbird.base_models import model_cache as caching
from tailorbird.base_models.model_cache import make_once, ready
from tailorbird.base_models.revision_pins import pin
from tailorbird.domain.base_model import CatalogueEntry, ModelSource
from tailorbird.domain.errors import Corrupt, ModelInvalid
from tailorbird.ledger import open_artifacts


class CopyingReader:
    """Writes a folder from the source's name, and counts."""

    def __init__(self) -> None:
        self.calls = 0

    def convert(self, source: Path, target: Path) -> None:
        self.calls += 1
        (target / "model.safetensors").write_bytes(source.name.encode())
        (target / "config.json").write_text("{}")


def hugging_face_folder(folder: Path, **files: str) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(files.get("config", '{"model_type": "llama"}'))
    (folder / files.get("weights", "model.safetensors")).write_bytes(b"x")
    return folder


def test_a_folder_is_converted_once(tmp_path: Path) -> None:
    source, reader = hugging_face_folder(tmp_path / "My Model"), CopyingReader()
    first = pull(str(source), tmp_path / "cache", lambda: reader)
    second = pull(str(source), tmp_path / "cache", lambda: reader)
    assert first == second
    assert first.name.startswith("my-model-")
    assert reader.calls == 1
    assert sorted(path.name for path in first.iterdir()) == ["config.json", "model.safetensors"]


def test_a_gguf_file_is_converted(tmp_path: Path) -> None:
    (tmp_path / "tiny.Q4.gguf").write_bytes(b"GGUF")
    folder = pull(str(tmp_path / "tiny.Q4.gguf"), tmp_path / "cache", CopyingReader)
    assert (folder / "model.safetensors").read_bytes() == b"tiny.Q4.gguf"


def test_a_changed_source_is_another_model(tmp_path: Path) -> None:
    source = hugging_face_folder(tmp_path / "model")
    first = pull(str(source), tmp_path / "cache", CopyingReader)
    (source / "model.safetensors").write_bytes(b"longer")
    assert pull(str(source), tmp_path / "cache", CopyingReader) != first


def test_a_damaged_folder_is_made_anew(tmp_path: Path) -> None:
    source, reader = hugging_face_folder(tmp_path / "model"), CopyingReader()
    folder = pull(str(source), tmp_path / "cache", lambda: reader)
    (folder / "model.safetensors").write_bytes(b"")
    assert pull(str(source), tmp_path / "cache", lambda: reader) == folder
    assert reader.calls == 2
    assert (folder / "model.safetensors").read_bytes() == b"model"


def test_a_failed_conversion_leaves_nothing(tmp_path: Path) -> None:
    class Failing:
        def convert(self, source: Path, target: Path) -> None:
            (target / "half").touch()
            raise ModelInvalid("no", "no")

    source = hugging_face_folder(tmp_path / "model")
    with pytest.raises(ModelInvalid):
        pull(str(source), tmp_path / "cache", Failing)
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []
    assert ready(pull(str(source), tmp_path / "cache", CopyingReader))


def test_what_a_killed_process_left_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / ".model.partial").mkdir()
    (tmp_path / ".model.partial" / "half").touch()
    folder = make_once(tmp_path / "model", lambda empty: (empty / "whole").write_text("x") and None, print)
    assert [path.name for path in folder.iterdir()] == ["whole"]


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"weights": "pytorch_model.bin"}, "model_pickled"),
        ({"weights": "weights.pt"}, "model_pickled"),
        ({"weights": "readme.md"}, "model_weights"),
        ({"config": json.dumps({"auto_map": {"AutoModel": "evil.Model"}})}, "model_remote_code"),
        ({"config": "{"}, "model_config"),
    ],
)
def test_what_could_run_code_or_is_no_model_is_refused(files: dict[str, str], code: str, tmp_path: Path) -> None:
    source = hugging_face_folder(tmp_path / "model", **files)
    with pytest.raises(ModelInvalid) as caught:
        pull(str(source), tmp_path / "cache", CopyingReader)
    assert caught.value.error_code == code
    assert not (tmp_path / "cache").exists()


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"")
    with pytest.raises(ModelInvalid) as caught:
        pull(str(tmp_path / "model.pt"), tmp_path / "cache", CopyingReader)
    assert caught.value.error_code == "model_source"


@pytest.mark.parametrize(
    ("name", "hint"), [("smollm-135m", "did you mean 'smollm2-135m'?"), ("./no/such/folder", "path of a model folder")]
)
def test_an_unknown_name_gets_the_nearest(name: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(ModelInvalid) as caught:
        pull(name, tmp_path, CopyingReader)
    assert caught.value.error_code == "model_unknown"
    assert hint in caught.value.hint


def test_installed_tells_what_is_here(base_model_folder: Path, tmp_path: Path) -> None:
    here = {listing.name: listing.folder for listing in list_models(base_model_folder.parent)}
    assert here["smollm2-135m"] == base_model_folder
    assert [listing.name for listing in list_models(tmp_path)] == [entry.name for entry in catalogue()]
    assert all(listing.folder is None for listing in list_models(tmp_path))


def _fill_slowly(folder: Path, log: Path) -> None:
    def fill(empty: Path) -> None:
        with log.open("a") as stream:
            stream.write("filled\n")
        threading.Event().wait(0.2)
        (empty / "file").write_text("whole")

    made = make_once(folder, fill, lambda _: None)
    assert (made / "file").read_text() == "whole"


def test_two_processes_make_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_fill_slowly, args=(tmp_path / "model", tmp_path / "log")) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "filled\n"


def test_workspaces_share_what_was_converted(tmp_path: Path) -> None:
    source, reader = hugging_face_folder(tmp_path / "model"), CopyingReader()
    one, other = (ModelCache(tmp_path / name / "models", tmp_path / "cache") for name in ("one", "other"))
    folder = pull(str(source), one, lambda: reader)
    assert pull(str(source), other, lambda: reader) == folder
    assert (folder.parent, reader.calls) == (tmp_path / "cache", 1)
    assert folder.parent.stat().st_mode & 0o077 == 0
    assert not one.own.exists()


def test_what_an_earlier_version_converted_in_the_workspace_is_used_there(tmp_path: Path) -> None:
    source, reader = hugging_face_folder(tmp_path / "model"), CopyingReader()
    folder = pull(str(source), tmp_path / "models", lambda: reader)
    assert pull(str(source), ModelCache(tmp_path / "models", tmp_path / "cache"), lambda: reader) == folder
    assert reader.calls == 1


def test_a_name_is_pinned_by_each_workspace_for_itself(tmp_path: Path) -> None:
    entry = CatalogueEntry(
        name="hf://acme/tiny",
        title="acme/tiny",
        license="mit",
        parameters=1,
        source=ModelSource(kind="hub", location="acme/tiny", version="a" * 40),
    )
    one, other = (ModelCache(tmp_path / name / "models", tmp_path / "cache") for name in ("one", "other"))
    pin(entry, one.own)
    assert known_facts(entry.name, one) == entry
    assert [listed.name for listed in list_models(one)][-1] == entry.name
    assert entry.name not in [listed.name for listed in list_models(other)]


def test_a_changed_byte_in_the_shared_cache_is_found_when_it_is_used(tmp_path: Path) -> None:
    source = hugging_face_folder(tmp_path / "model")
    folder = pull(str(source), ModelCache(tmp_path / "one", tmp_path / "cache"), CopyingReader)
    (folder / "model.safetensors").write_bytes(b"MODEL")
    assert ready(folder)
    with pytest.raises(Corrupt, match="was changed since it was converted"):
        register_base(folder, "model", open_artifacts(str(tmp_path / "artifacts"), tmp_path / "copies"))


def test_what_takes_long_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching, "OFTEN", 0.01)
    told: list[str] = []
    make_once(tmp_path / "model", lambda empty: threading.Event().wait(0.2) and None, told.append)
    assert len(told) > 2
    assert all(line.startswith("model: ") and line.endswith(" s so far") for line in told)
