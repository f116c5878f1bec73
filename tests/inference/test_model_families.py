"""Every architecture that transformers knows is computed as transformers computes it, by whichever pass."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from support.family_checks import TEXTS, Answers, Theirs, asked, check_family, prompts, targets_of, write_adapter
from support.model_families import ENCODERS, FAMILIES, model_of, write_family
from support.oracle import edit_json, servable
from tailorbird.domain.errors import ModelInvalid
from tailorbird.inference import open_encoder, open_engine
from tailorbird.inference.forward import equality
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
        ("llama", {}, True),
        ("qwen2", {}, True),
        ("mistral", {"sliding_window": None}, True),
        ("mistral", {"sliding_window": 4096}, True),
        ("gemma3_text", {}, True),
        ("granite", {}, False),
        (
            "granite",
            {"embedding_multiplier": 1.0, "residual_multiplier": 1.0, "attention_multiplier": 8**-0.5, "logits_scaling": 1.0},
            True,
        ),
        ("smollm3", {}, False),
        ("ministral3", {}, False),
        (
            "llama",
            {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 64}},
            True,
        ),
        ("qwen3", {}, True),
        ("olmo2", {}, False),
        ("gemma", {}, True),
        ("gemma2", {}, False),
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


def test_norms_of_heads_that_are_unlike_any_known_are_left_to_transformers() -> None:
    model = model_of("qwen3")
    for layer in model.model.layers:
        layer.self_attn.q_norm = torch.nn.Identity()
    assert "normed" in compare(model)


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


@pytest.mark.parametrize("lost", [False, True])
def test_a_lost_cache_costs_time_and_nothing_else(lost: bool) -> None:
    forward = TransformersForward(model_of("lfm2", spread=2.0))
    memory, text = forward.memory(8), list(range(20, 50))
    with torch.inference_mode():
        forward.hidden(build_batch([Part(None, text[:29], 0, [0, 1], 28, history=text)]), memory)
        if lost:
            forward.release(memory, [0, 1])
        last = forward.hidden(build_batch([Part(None, text[29:], 29, [0, 1], 28, history=text)]), memory)
        whole = forward.hidden(build_batch([Part(None, text, 0, [4, 5], 29, history=text)]), memory)
    assert last.shape == whole.shape
    assert (last - whole).abs().max() < 1e-3 * whole.abs().max()


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


def test_a_sequence_that_is_over_leaves_no_memory(family: MakeFamily) -> None:
    engine: Any = open_engine("fp32", kv_mb=8)
    wanted = servable(family("gemma2"), "one")
    engine.load(wanted)
    engine.score(wanted.id, [list(request.prompt) for request in asked(wanted.id)[:1]], ("a", "b"))
    [lane] = engine._worker._lanes.values()
    assert lane._memory._rows == {}
    assert lane._memory._stacks == []
    assert engine.state().kv_tokens_used == 0
    engine.close()


@pytest.mark.parametrize(
    ("model_type", "settings"),
    [
        ("qwen3", {"use_rslora": True}),
        ("gemma2", {"rank_pattern": {"q_proj": 5}, "alpha_pattern": {"q_proj": 9}}),
        ("qwen3", {"rank_pattern": {"q_proj": 5}, "alpha_pattern": {"q_proj": 9}}),
        ("gpt2", {"fan_in_fan_out": True}),
    ],
)
def test_settings_of_adapters(model_type: str, settings: dict[str, Any], family: MakeFamily, tmp_path: Path) -> None:
    folder = family(model_type)
    tuned = Theirs(folder, model_type, write_adapter(folder, Theirs(folder, model_type), tmp_path, 3, **settings))
    engine = open_engine("fp32", kv_mb=8)
    bare, wanted = servable(folder, "bare"), servable(folder, "one", adapter=tmp_path)
    requests = [request for one in (bare, wanted) for request in asked(one.id)]
    for one in (bare, wanted):
        engine.load(one)
    found = Answers(engine, requests)
    for at, prompt in enumerate(prompts()):
        plain, changed = found.result(2 * at), found.result(len(requests) // 2 + 2 * at)
        assert changed == pytest.approx(tuned.score(prompt), abs=2e-3)
        assert changed != pytest.approx(plain, abs=2e-3)
        assert found.result(len(requests) // 2 + 2 * at + 1) == tuned.generate(prompt)
    engine.close()


def test_an_adapter_of_the_text_part_fits_its_wrapper_and_one_that_does_nothing_is_refused(family: MakeFamily, tmp_path: Path) -> None:
    folder, engine = family("qwen3_vl"), open_engine("fp32", kv_mb=8)
    write_adapter(folder, Theirs(folder, "qwen3_vl"), tmp_path / "whole", 3)
    shutil.copytree(tmp_path / "whole", tmp_path / "text")
    tensors = load_file(tmp_path / "whole" / "adapter_model.safetensors")
    save_file(
        {name.replace(".language_model", ""): each for name, each in tensors.items()}, tmp_path / "text" / "adapter_model.safetensors"
    )
    whole, text = (servable(folder, name, adapter=tmp_path / name) for name in ("whole", "text"))
    prompt = list(asked(whole.id)[0].prompt)
    for one in (whole, text):
        engine.load(one)
    scores = [engine.score(one.id, [prompt], ("a", "b"))[0].log_probabilities for one in (whole, text)]
    assert scores[0] == scores[1]
    shutil.copytree(tmp_path / "whole", tmp_path / "odd")
    odd = {"base_model.model.model.visual.blocks.0.attn.qkv." + half: torch.zeros(3, 3) for half in ("lora_A.weight", "lora_B.weight")}
    save_file(odd, tmp_path / "odd" / "adapter_model.safetensors")
    with pytest.raises(ModelInvalid, match="nothing that reads text") as refused:
        engine.load(servable(folder, "odd", adapter=tmp_path / "odd"))
    assert refused.value.error_code == "adapter_invalid"
    engine.close()


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


@pytest.mark.parametrize("model_type", sorted(ENCODERS))
def test_vectors_equal_transformers_one_text_at_a_time(model_type: str, tmp_path: Path) -> None:
    folder = write_family(tmp_path / "encoder", model_type)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    found = torch.from_numpy(open_encoder().embed(folder, TEXTS))
    for text, vector in zip(TEXTS, found, strict=True):
        with torch.inference_mode():
            [hidden_TH] = model(input_ids=tokenizer(text, return_tensors="pt")["input_ids"]).last_hidden_state
        assert torch.allclose(vector, torch.nn.functional.normalize(hidden_TH.mean(0), dim=0), atol=1e-5)


def test_a_padding_token_with_a_high_number_leaves_an_encoder_its_positions(tmp_path: Path) -> None:
    """Only where positions are counted from the padding token on, as RoBERTa does, does its number take from them."""
    folder = write_family(tmp_path / "encoder", "modernbert")
    usual = open_encoder().embed(folder, TEXTS)
    positions = json.loads((folder / "config.json").read_text(encoding="utf-8"))["max_position_embeddings"]
    edit_json(folder / "config.json", pad_token_id=positions + 7)
    assert (open_encoder().embed(folder, TEXTS) == usual).all()


def test_a_token_with_a_number_far_beyond_the_embedding_is_refused(tmp_path: Path) -> None:
    folder = write_family(tmp_path / "model", "qwen3")
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["model"]["vocab"]["far"] = 9_000
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ModelInvalid) as refused:
        open_engine("fp32").load(servable(folder))
    assert refused.value.error_code == "model_unreadable"


@pytest.mark.parametrize(
    "setting",
    [
        {"alpha_pattern": {r"(\w+\.?)+!": 1}},
        {"alpha_pattern": {"(": 1}},
        {"alpha_pattern": {"q_proj": "much"}},
        {"alpha_pattern": [1]},
        {"alpha_pattern": {r"(q)\1": 1}},
        {"target_parameters": 7},
    ],
    ids=str,
)
@pytest.mark.parametrize("model_type", ["gemma2", "qwen3"])
def test_settings_of_an_adapter_are_read_in_little_time_or_refused(
    model_type: str, setting: dict[str, object], family: MakeFamily, tmp_path: Path
) -> None:
    folder, engine = family(model_type), open_engine("fp32", kv_mb=8)
    write_adapter(folder, Theirs(folder, model_type), tmp_path / "adapter", 3)
    edit_json(tmp_path / "adapter" / "adapter_config.json", **setting)
    if setting == {"alpha_pattern": {r"(\w+\.?)+!": 1}}:
        engine.load(servable(folder, adapter=tmp_path / "adapter"))
    else:
        with pytest.raises(ModelInvalid) as refused:
            engine.load(servable(folder, adapter=tmp_path / "adapter"))
        assert refused.value.error_code == "adapter_invalid"
    engine.close()


def test_a_test_that_could_not_be_made_is_made_again_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equality, "_VERDICTS", {})

    def lacks_memory(*_tested: object) -> float:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(equality, "_off", lacks_memory)
        assert "could not be tested" in compare(model_of("llama"))
    assert compare(model_of("llama")) == ""


def test_targets_are_found_in_every_family() -> None:
    assert len(targets_of(model_of("qwen3_vl"))) == 14
