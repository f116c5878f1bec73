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
