"""The shape of any decoder is told from its config and the headers of its weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.model_families import write_family
from support.tiny_models import write_gguf
from tailorbird.domain.errors import ModelInvalid
from tailorbird.inference.model_converter import TransformersReader
from tailorbird.inference.model_description import describe_here


def changed(folder: Path, **changes: object) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


def refused(folder: Path) -> str:
    with pytest.raises(ModelInvalid) as caught:
        describe_here(folder)
    assert caught.value.hint
    return caught.value.error_code


def test_of_a_mixture_attention_takes_adapters(tmp_path: Path) -> None:
    found = describe_here(write_family(tmp_path, "glm4_moe"))
    experts = found.anatomy.experts
    assert experts is not None
    assert (experts.experts, experts.active, experts.parameters) == (4, 2, 4 * 3 * 32 * 24)
    assert set(found.linear_shapes) == {"q_proj", "k_proj", "v_proj", "o_proj"}, "PEFT takes gate_proj for the experts'"
    assert [(group.outputs, group.count) for group in found.anatomy.linear_groups if group.name == "gate_proj"] == [(48, 1), (24, 1)]


def test_a_gate_of_one_number_takes_none(tmp_path: Path) -> None:
    found = describe_here(write_family(tmp_path, "qwen3_next"))
    assert "shared_expert_gate" not in found.linear_shapes
    assert "in_proj_qkvz" in found.linear_shapes
    assert found.anatomy.recurrent


def test_of_a_multimodal_model_the_text_part_is_told(tmp_path: Path) -> None:
    found = describe_here(write_family(tmp_path, "mistral3"))
    assert (found.anatomy.model_type, found.anatomy.wrapper, found.hidden, found.layers) == ("ministral3", "mistral3", 32, 2)
    assert found.anatomy.linear_groups[0].count == 2


def test_without_attention_there_are_no_heads(tmp_path: Path) -> None:
    found = describe_here(write_family(tmp_path, "mamba2"))
    assert (found.anatomy.heads, found.anatomy.head_width, found.anatomy.recurrent) == (0, 0, True)


def test_convolutions_of_width_one_are_no_linear_layers(tmp_path: Path) -> None:
    found = describe_here(changed(write_family(tmp_path, "gpt2"), intermediate_size=None))
    assert (found.linear_shapes, found.anatomy.linear_groups) == ({}, ())
    assert found.intermediate == 4 * found.hidden, "memory is estimated by it"


@pytest.mark.parametrize(
    ("model_type", "own"), [("gemma2", True), ("phi", True), ("granite", False), ("falcon_h1", False), ("gemma3", False)]
)
def test_logits_that_are_no_multiple_of_the_head_are_told(model_type: str, own: bool, tmp_path: Path) -> None:
    assert describe_here(write_family(tmp_path, model_type)).anatomy.own_logits is own


def test_what_cannot_be_a_base_is_refused(tmp_path: Path) -> None:
    folder = write_family(tmp_path, "mixtral")
    kept = (folder / "config.json").read_text()
    cases = [
        ("model_unsafe", {"auto_map": {"AutoModel": "mine.Model"}}),
        ("model_unsupported", {"model_type": "no-such-type"}),
        ("model_unsupported", {"quantization_config": {"quant_method": "awq", "bits": 4}}),
        ("model_unsupported", {"model_type": "bert", "architectures": ["BertModel"]}),
        ("model_config", {"num_hidden_layers": 10**9}),
    ]
    for code, changes in cases:
        (folder / "config.json").write_text(kept)
        assert refused(changed(folder, **changes)) == code, changes
    (folder / "config.json").write_text("[")
    assert refused(folder) == "model_config"


#: Sizes that their makers publish, in billions of weights, and what a token meets of them in its layers.
PUBLISHED: dict[str, tuple[dict[str, object], float, float]] = {
    "gpt_oss": (
        {"num_hidden_layers": 36, "num_local_experts": 128, "num_experts_per_tok": 4, "vocab_size": 201_088}
        | {"hidden_size": 2880, "intermediate_size": 2880, "head_dim": 64, "num_attention_heads": 64, "num_key_value_heads": 8},
        116.83,
        4.54,
    ),
    "qwen3_moe": (
        {"num_hidden_layers": 94, "num_experts": 128, "num_experts_per_tok": 8, "vocab_size": 151_936, "hidden_size": 4096}
        | {
            "intermediate_size": 12_288,
            "moe_intermediate_size": 1536,
            "head_dim": 128,
            "num_attention_heads": 64,
            "num_key_value_heads": 4,
        },
        235.09,
        20.9,
    ),
    "llama": (
        {"num_hidden_layers": 80, "hidden_size": 8192, "intermediate_size": 28_672, "num_attention_heads": 64}
        | {"num_key_value_heads": 8, "vocab_size": 128_256},
        70.55,
        68.5,
    ),
}


@pytest.mark.parametrize("model_type", PUBLISHED)
def test_a_config_alone_tells_the_shape_of_the_largest(model_type: str, tmp_path: Path) -> None:
    sizes, billions, met = PUBLISHED[model_type]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(sizes | {"model_type": model_type, "tie_word_embeddings": False}))
    found = describe_here(path)
    assert found.parameters / 1e9 == pytest.approx(billions, abs=0.01)
    experts = found.anatomy.experts
    linear = sum(group.count * group.inputs * group.outputs for group in found.anatomy.linear_groups)
    active = experts.parameters * experts.active / experts.experts if experts else 0
    assert (linear + active) / 1e9 == pytest.approx(met, rel=0.02)
    assert {"q_proj", "o_proj"} <= set(found.linear_shapes)


def test_a_gguf_file_tells_the_shape_of_what_it_converts_to(tmp_path: Path) -> None:
    found = describe_here(write_gguf(tmp_path / "model.gguf"))
    (tmp_path / "converted").mkdir()
    TransformersReader().convert_here(tmp_path / "model.gguf", tmp_path / "converted")
    assert found == describe_here(tmp_path / "converted")


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF of a kind" * 10)
    assert refused(tmp_path / "model.gguf") == "model_config"


def test_norms_of_heads_and_of_the_stream_are_counted(tmp_path: Path) -> None:
    plain = describe_here(write_family(tmp_path / "llama", "llama"))
    heads = describe_here(write_family(tmp_path / "qwen3", "qwen3"))
    assert plain.anatomy.normalised == 2 * 2 * plain.hidden
    assert heads.anatomy.normalised == 2 * (2 * heads.hidden + (4 + 2) * 8)


def test_a_config_alone_is_refused_as_a_folder_is(tmp_path: Path) -> None:
    folder = write_family(tmp_path, "mixtral")
    kept = json.loads((folder / "config.json").read_text())
    cases = [
        ("model_unsafe", {"auto_map": {"AutoModel": "mine.Model"}}),
        ("model_unsupported", {"model_type": "no-such-type"}),
        ("model_unsupported", {"quantization_config": {"quant_method": "mxfp4"}}),
        ("model_unsupported", {"model_type": "bert", "architectures": ["BertModel"]}),
        ("model_config", {"num_hidden_layers": 0}),
    ]
    alone = tmp_path / "alone.json"
    for code, changes in cases:
        alone.write_text(json.dumps(kept | changes))
        assert refused(alone) == code, changes
