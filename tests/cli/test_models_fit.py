"""``tailorbird models fit`` reads a config, and needs no workspace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.doubles import MemoryModelReader, MemoryTrainer
from tailorbird.base_models import ModelCache
from tailorbird.cli import models
from tailorbird.cli.session import CommandSession
from tailorbird.domain.errors import NotFound
from tailorbird.planning import FitQuestion
from tailorbird.wiring import FittingParts

CONFIG = {"model_type": "odd", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 100, "max_position_embeddings": 256}


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in and above which there is no workspace, with a config."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TAILORBIRD_WORKSPACE", raising=False)
    parts = FittingParts(ModelCache(tmp_path / "cache"), MemoryModelReader, MemoryTrainer)
    monkeypatch.setattr(models, "open_fitting", lambda _: parts)
    (tmp_path / "odd.json").write_text(json.dumps(CONFIG))
    return tmp_path


def test_a_config_is_fitted_where_there_is_no_workspace(outside: Path) -> None:
    before = sorted(outside.rglob("*"))
    fit = models._fitted(CommandSession(), "odd.json", FitQuestion())
    assert (fit.model_type, fit.context) == ("odd", 256)
    assert sorted(outside.rglob("*")) == before


def test_a_workspace_that_is_named_must_be_there(outside: Path) -> None:
    with pytest.raises(NotFound) as caught:
        models._fitted(CommandSession(workspace=outside / "none"), "odd.json", FitQuestion())
    assert caught.value.error_code == "workspace_missing"
