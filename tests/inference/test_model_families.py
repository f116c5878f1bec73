"""Every architecture that transformers knows is computed as transformers computes it, by whichever pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from support.family_checks import Theirs, check_family, write_adapter
from support.model_families import FAMILIES, model_of, write_family
from support.oracle import edit_json, servable
from tailorbird.domain.errors import ModelInvalid
from tailorbird.inference import open_engine
from tailorbird.inference.forward.batch import Part, build_batch
from tailorbird.inference.forward.equality import compare
from tailorbird.inference.forward.transformers_forward import TransformersForward

#: A few that differ as much as possible: windows in turn, a running state, sinks and experts, latent keys, a wrapper.
FEW = {
    "gemma3_text": "plain",
    "gemma2": "transformers",
    "qwen3_5_text": "transformers",
    "gpt_oss": "transformers",
    "deepseek_v3": "transformers",
    "qwen3_vl": "transformers",
}

MakeFamily = Callable[[str], Path]


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> MakeFamily:
    """Makes the folder of a tiny model, once."""
    made: dict[str, Path] = {}

    def make(model_type: str) -> Path:
        if model_type not in made:
            made[model_type] = write_family(tmp_path_factory.mktemp(model_type) / "model", model_type, spread=2.0)
        return made[model_type]

    return make


def holds(found: dict[str, Any]) -> bool:
    return all(found[name] for name in found if name.endswith(("transformers", "peft", "effect", "alone")))


@pytest.mark.parametrize("model_type", FEW)
def test_engine_equals_transformers_and_peft(model_type: str, family: MakeFamily, tmp_path: Path) -> None:
    found = check_family(family(model_type), model_type, tmp_path)
    assert holds(found), found
    assert found["pass"] == FEW[model_type]


@pytest.mark.models
@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_every_family(model_type: str, family: MakeFamily, tmp_path: Path) -> None:
    found = check_family(family(model_type), model_type, tmp_path)
    assert holds(found), found


@pytest.mark.parametrize(
    ("model_type", "changes", "written_out"),
    [
        ("mistral", {"sliding_window": None}, True),
        ("gemma3_text", {}, True),
        ("granite", {}, False),
        (
            "granite",
            {"embedding_multiplier": 1.0, "residual_multiplier": 1.0, "attention_multiplier": 8**-0.5, "logits_scaling": 1.0},
            True,
        ),
        (
            "llama",
            {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 64}},
            True,
        ),
    ],
)
def test_the_written_out_pass_is_chosen_by_what_it_computes(model_type: str, changes: dict[str, Any], written_out: bool) -> None:
    from transformers import AutoModelForCausalLM

    config = model_of(model_type).config
    for name, value in changes.items():
        setattr(config, name, value)
    built: Any = AutoModelForCausalLM
    verdict = compare(built.from_config(config))
    assert (verdict == "") is written_out, verdict


@pytest.mark.parametrize("model_type", ["gemma3_text", "falcon_h1"])
def test_pieces_of_a_text_give_what_the_whole_gives(model_type: str) -> None:
    forward = TransformersForward(model_of(model_type, spread=2.0))
    memory, text = forward.memory(8), torch.randint(0, 256, (40,), generator=torch.Generator().manual_seed(1)).tolist()
    with torch.inference_mode():
        rows = [
            forward.hidden(build_batch([Part(None, text[start : start + 7], start, [0, 1, 2], 0, history=text)]), memory)
            for start in range(0, 40, 7)
        ]
        whole = forward.hidden(build_batch([Part(None, text, 0, [5, 6, 7], 0, history=text)]), memory)
    assert (torch.cat(rows) - whole).abs().max() < 1e-3 * whole.std()


def test_a_model_that_keeps_its_state_in_itself_is_computed_without_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "recurrent_gemma", {"lru_width": 32, "attention_window_size": 8, "num_hidden_layers": 3})
    forward = TransformersForward(model_of("recurrent_gemma", spread=2.0))
    assert not forward.abilities.caches
    memory, texts = forward.memory(8), (list(range(20, 40)), list(range(60, 75)))
    with torch.inference_mode():
        last = [
            forward.hidden(build_batch([Part(None, text[start:stop], start, [at], stop - 1, history=text)]), memory)
            for start, stop in ((0, 14), (14, 15))
            for at, text in enumerate(texts)
        ][2:]
        whole = [forward.computed([text[:15]], None, [])[0, -1:] for text in texts]
    assert all((one - other).abs().max() < 1e-4 for one, other in zip(last, whole, strict=True))


def test_an_adapter_on_experts_is_refused(family: MakeFamily, tmp_path: Path) -> None:
    folder = family("qwen3_moe")
    settings = {"target_modules": ["q_proj"], "target_parameters": ["mlp.experts.down_proj"]}
    write_adapter(folder, Theirs(folder, "qwen3_moe"), tmp_path, 3, **settings)
    with pytest.raises(ModelInvalid) as refused:
        open_engine("fp32").load(servable(folder, "one", adapter=tmp_path))
    assert refused.value.error_code == "adapter_invalid"


def test_a_model_that_reads_backwards_is_no_decoder(tmp_path: Path) -> None:
    folder = write_family(tmp_path / "model", "gemma3_text")
    edit_json(folder / "config.json", use_bidirectional_attention=True)
    with pytest.raises(ModelInvalid) as refused:
        open_engine("fp32").load(servable(folder))
    assert refused.value.error_code == "model_unsupported"


@pytest.mark.parametrize(
    "setting",
    [
        {"alpha_pattern": {r"(\w+\.?)+!": 1}},
        {"alpha_pattern": {"q_proj": "much"}},
        {"alpha_pattern": {r"(q)\1": 1}},
    ],
    ids=str,
)
def test_settings_of_an_adapter_are_read_in_little_time_or_refused(setting: dict[str, object], family: MakeFamily, tmp_path: Path) -> None:
    folder, engine = family("gemma2"), open_engine("fp32", kv_mb=8)
    write_adapter(folder, Theirs(folder, "gemma2"), tmp_path / "adapter", 3)
    edit_json(tmp_path / "adapter" / "adapter_config.json", **setting)
    if setting == {"alpha_pattern": {r"(\w+\.?)+!": 1}}:
        engine.load(servable(folder, adapter=tmp_path / "adapter"))
    else:
        with pytest.raises(ModelInvalid) as refused:
            engine.load(servable(folder, adapter=tmp_path / "adapter"))
        assert refused.value.error_code == "adapter_invalid"
    engine.close()
