"""Settings: where they come from, and what a copy takes along."""

from __future__ import annotations

import ast
import re
import stat
from pathlib import Path

import pytest
import yaml

from tailorbird import wiring
from tailorbird.domain.errors import InvalidInput
from tailorbird.settings import (
    LEFT_OUT,
    Settings,
    load_settings,
    portable_settings,
    save_settings,
)

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "settings.md"


#: Variables that a setting names (``endpoint_keys``), by the file that reads them.
NAMED_BY_SETTINGS = {("secret_references.py", "place")}
#: Variables that processes of one training set for one another: nobody else does.
AMONG_PROCESSES = {("process_group.py", "name")}


def test_no_other_variable_of_the_environment_is_read_than_those_documented() -> None:
    """Every ``os.environ[NAME]``, ``.get``, ``.pop``, ``.setdefault`` and ``getenv`` of the sources, by name."""
    named = set(re.findall(r"`([A-Z][A-Z_]+)`", PAGE.read_text()))
    for path in (PAGE.parents[2] / "src").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = {
            ast.unparse(one.targets[0]): one.value.value
            for one in tree.body
            if isinstance(one, ast.Assign) and isinstance(one.value, ast.Constant)
        }
        for node in ast.walk(tree):
            key = None
            if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
                key = node.slice
            elif isinstance(node, ast.Call) and re.fullmatch(r"os\.(environ\.(get|pop|setdefault)|getenv)", ast.unparse(node.func)):
                key = node.args[0]
            if key is not None and (path.name, ast.unparse(key)) not in NAMED_BY_SETTINGS | AMONG_PROCESSES:
                name = key.value if isinstance(key, ast.Constant) else constants.get(ast.unparse(key))
                assert name in named, f"{path}:{node.lineno}: {ast.unparse(key)}"


@pytest.mark.parametrize("text", ["checkpoint_minutes: -1", "log_format: xml", "chekpoints: []", "- a list", "a: [", "\xff"])
def test_what_is_no_setting_is_refused_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(InvalidInput) as refused:
        load_settings(tmp_path, {})
    assert refused.value.error_code == "settings_invalid"
    assert "did you mean checkpoints?" in refused.value.hint or "chek" not in text


def test_the_file_is_its_owners_alone_and_a_copy_keeps_no_secret(tmp_path: Path) -> None:
    save_settings(tmp_path, dict.fromkeys(LEFT_OUT, "s3://somewhere") | {"tenant": "acme"})
    assert stat.S_IMODE((tmp_path / "settings.yaml").stat().st_mode) == 0o600
    assert yaml.safe_load(portable_settings(tmp_path)) == {"tenant": "acme"}
    assert set(LEFT_OUT) < set(Settings.model_fields)


def test_base_models_lie_in_the_users_cache_unless_a_setting_moves_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_settings(tmp_path, {})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert load_settings(tmp_path, {}).models == tmp_path / "cache" / "tailorbird" / "models"
    assert load_settings(tmp_path, {"TAILORBIRD_MODEL_CACHE": "models"}).models == tmp_path / "models"
    assert load_settings(tmp_path, {"TAILORBIRD_MODEL_CACHE": "/mnt/models"}).models == Path("/mnt/models")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/dev/null")
    assert load_settings(tmp_path, {}).models == tmp_path / "models"


@pytest.mark.parametrize("name", ["a%20b", "what?", "a+b", "a#b", "größe ß", "a::b", "100%"])
def test_the_record_lies_in_its_own_workspace_whatever_the_folder_is_called(name: str, tmp_path: Path) -> None:
    """A path with %20 had been read as a URL: the record of the folder beside it, called with a space, was opened."""
    place = tmp_path / name
    place.mkdir(mode=0o700)
    settings = Settings(workspace=place)
    deps = wiring.open_dependencies(settings)
    digest = deps.artifacts.put(b"kept")
    deps.ledger.close()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert settings.record_file == place / "tailorbird.db"
    assert (place / "tailorbird.db").is_file()
    assert digest[7:] in "".join(path.as_posix().replace("/", "") for path in (place / "artifacts").rglob("*"))


def test_record_and_artifacts_with_relative_paths_lie_in_the_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, elsewhere = tmp_path / "100%?", tmp_path / "elsewhere"
    workspace.mkdir(mode=0o700)
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    settings = Settings(workspace=workspace, database="sqlite:///records/one.db", artifacts="store")
    wiring.open_dependencies(settings).ledger.close()
    assert settings.record_file == workspace / "records" / "one.db"
    assert settings.record_file.is_file()
    assert settings.artifacts_url == str(workspace / "store")
    assert not list(elsewhere.iterdir())
    for url in ("s3://bucket/folder", "simplecache::s3://bucket", "memory://store"):
        assert Settings(workspace=workspace, artifacts=url).artifacts_url == url
    for url in ("sqlite:////var/lib/t.db", "postgresql://u@h/d", "sqlite:///:memory:", "sqlite://"):
        assert Settings(workspace=workspace, database=url).database_url == url
