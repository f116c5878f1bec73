"""Settings: where they come from, and what a copy takes along."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import yaml

from tailorbird.domain.errors import InvalidInput
from tailorbird.settings import LEFT_OUT, Settings, load_settings, portable_settings, save_settings
from tailorbird.wiring import open_dependencies


def test_lists_come_from_the_file_or_with_commas_from_the_environment(tmp_path: Path) -> None:
    save_settings(tmp_path, {"checkpoints": ["notes.jsonl", "https://witness.example/"], "trusted_proxies": "10.0.0.5"})
    settings = load_settings(tmp_path, {})
    assert settings.checkpoints == ("notes.jsonl", "https://witness.example/")
    assert settings.trusted_proxies == ("10.0.0.5",)
    environment = {"TAILORBIRD_CHECKPOINTS": "/mnt/notes, https://other.example/", "TAILORBIRD_CHECKPOINT_MINUTES": "5"}
    settings = load_settings(tmp_path, environment)
    assert settings.checkpoints == ("/mnt/notes", "https://other.example/")
    assert settings.checkpoint_minutes == 5
    assert settings.place("notes.jsonl") == tmp_path / "notes.jsonl"
    assert settings.place("/mnt/notes") == Path("/mnt/notes")


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


def test_the_file_of_the_record_is_known_where_there_is_one(tmp_path: Path) -> None:
    assert Settings(workspace=tmp_path).record_file == tmp_path / "tailorbird.db"
    assert Settings(workspace=tmp_path, database="sqlite:////data/x.db").record_file == Path("/data/x.db")
    assert Settings(workspace=tmp_path, database="postgresql://u:p@h/d").record_file is None


def test_base_models_lie_in_the_users_cache_unless_a_setting_moves_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_settings(tmp_path, {})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert load_settings(tmp_path, {}).models == tmp_path / "cache" / "tailorbird" / "models"
    assert load_settings(tmp_path, {"TAILORBIRD_MODEL_CACHE": "models"}).models == tmp_path / "models"
    assert load_settings(tmp_path, {"TAILORBIRD_MODEL_CACHE": "/mnt/models"}).models == Path("/mnt/models")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", "/dev/null")
    assert load_settings(tmp_path, {}).models == tmp_path / "models"


def test_a_cache_that_others_may_read_is_closed(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o755)
    (tmp_path / "workspace").mkdir(mode=0o700)
    deps = open_dependencies(Settings(workspace=tmp_path / "workspace", model_cache=str(tmp_path / "cache")))
    deps.ledger.close()
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700
    assert deps.models.shared == tmp_path / "cache"
