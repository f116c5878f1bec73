"""Fit of a base model, asked as a use case, and its table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from support.usecases import VIEWER
from tailorbird.domain.errors import Forbidden, ModelInvalid
from tailorbird.planning import FitQuestion
from tailorbird.reporting import fit_table
from tailorbird.usecases import Actor, Dependencies
from tailorbird.usecases.base_models import fit_model

CONFIG = {"model_type": "odd", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 100, "max_position_embeddings": 256}


def test_a_config_is_fitted_to_this_machine_and_to_gpus(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    path = tmp_path / "odd.json"
    path.write_text(json.dumps(CONFIG))
    fit = fit_model(deps, author, str(path), FitQuestion())
    assert (fit.model_type, fit.length, fit.machines[0].memory_gb) == ("odd", 256, 8.0)
    console = Console(width=200)
    with console.capture() as captured:
        console.print(fit_table(fit))
    text = captured.get()
    assert "this machine: 8.0 GiB, 200 GFLOP/s in bf16" in text
    assert text.count("NVIDIA H100 SXM") == 3
    assert "lora: one NVIDIA T4 (15 GiB) would do" in text
    assert "not measured on a GPU" in text


def test_authors_ask_and_nothing_is_fetched(deps: Dependencies, author: Actor) -> None:
    with pytest.raises(Forbidden):
        fit_model(deps, VIEWER, "smollm2-135m", FitQuestion())
    with pytest.raises(ModelInvalid, match="has not been pulled"):
        fit_model(deps, author, "smollm2-135m", FitQuestion())
