"""Tiny random models of many architectures, made from configs alone, with a tokenizer and a chat template of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedModel

from support.encoders import describe_in_place
from support.tiny_models import TEMPLATE, TOKENIZERS

#: Sizes that nearly every architecture calls by these names.
SIZES: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": 0.1,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
    "use_cache": True,
}
_WINDOW = {"sliding_window": 8}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
_ALTERNATING = {"layer_types": ["sliding_attention", "full_attention"], **_WINDOW}
_LINEAR = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_conv_kernel_dim": 4,
}
_LATENT = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "v_head_dim": 8,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "n_group": 2,
    "topk_group": 1,
    "moe_intermediate_size": 24,
    "first_k_dense_replace": 1,
    "num_key_value_heads": 4,
}
_MAMBA2 = {
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_n_groups": 1,
    "mamba_d_state": 8,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_chunk_size": 8,
}
_QWEN_VISION: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "depth": 1, "num_heads": 2, "out_hidden_size": 32}
_QWEN_TOKENS = {"image_token_id": 5, "video_token_id": 6, "vision_start_token_id": 7, "vision_end_token_id": 8}
_VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 16,
}
#: What an architecture needs beside ``SIZES``, by model type. A ``text_config`` is merged into ``SIZES``.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": _WINDOW,
    "ministral": _ALTERNATING,
    "ministral3": {},
    "mistral3": {
        "text_config": {"model_type": "ministral3"},
        "vision_config": {"model_type": "pixtral", **_VISION, "head_dim": 8},
        "image_token_index": 5,
    },
    "qwen2": {},
    "qwen3": {},
    "qwen3_moe": _EXPERTS,
    "qwen3_next": {**_EXPERTS, **_LINEAR, "shared_expert_intermediate_size": 24},
    "qwen3_5_text": _LINEAR,
    "qwen3_vl": {"text_config": {}, "vision_config": {**_QWEN_VISION, "deepstack_visual_indexes": [0]}, **_QWEN_TOKENS},
    "qwen3_5": {"text_config": _LINEAR, "vision_config": _QWEN_VISION, **_QWEN_TOKENS},
    "gemma": {},
    "gemma2": {**_ALTERNATING, "query_pre_attn_scalar": 8},
    "gemma3_text": {**_ALTERNATING, "query_pre_attn_scalar": 8},
    "gemma3": {
        "text_config": {"model_type": "gemma3_text", **_ALTERNATING},
        "vision_config": {"model_type": "siglip_vision_model", **_VISION},
        "image_token_index": 5,
        "mm_tokens_per_image": 4,
        "boi_token_index": 6,
        "eoi_token_index": 7,
    },
    "gemma4_text": {
        **_ALTERNATING,
        "global_head_dim": 8,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": 320,
        "num_kv_shared_layers": 0,
    },
    "phi": {},
    "phi3": {"original_max_position_embeddings": 256},
    "gpt_oss": {**_ALTERNATING, "num_local_experts": 4, "num_experts_per_tok": 2},
    "granite": {"embedding_multiplier": 2.0, "residual_multiplier": 0.5, "attention_multiplier": 0.3, "logits_scaling": 2.0},
    "granitemoehybrid": {
        **_MAMBA2,
        "layer_types": ["mamba", "attention"],
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "shared_intermediate_size": 24,
    },
    "olmo2": {},
    "olmo3": _ALTERNATING,
    "smollm3": {"no_rope_layers": [1, 0]},
    "glm4": {},
    "glm4_moe": {
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_shared_experts": 1,
        "n_group": 1,
        "topk_group": 1,
        "moe_intermediate_size": 24,
        "first_k_dense_replace": 1,
    },
    "cohere2": {**_ALTERNATING, "logit_scale": 0.5},
    "falcon_h1": {**_MAMBA2, "mamba_d_ssm": 64},
    "lfm2": {"layer_types": ["conv", "full_attention"], "conv_L_cache": 3, "block_ff_dim": 48, "block_auto_adjust_ff_dim": False},
    "nemotron_h": {
        "layers_block_type": ["mamba", "attention", "moe", "mamba"],
        "num_hidden_layers": 4,
        "mamba_num_heads": 4,
        "mamba_head_dim": 16,
        "n_groups": 1,
        "ssm_state_size": 8,
        "conv_kernel": 4,
        "chunk_size": 8,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 24,
        "moe_shared_expert_intermediate_size": 24,
        "n_group": 1,
        "topk_group": 1,
    },
    "deepseek_v3": _LATENT,
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2, "num_key_value_heads": 4},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "starcoder2": _WINDOW,
    "gpt2": {"n_positions": 256, "n_embd": 32, "n_layer": 2, "n_head": 4},
    "gpt_neox": {"rotary_pct": 0.5},
    "exaone4": {**_ALTERNATING},
    "mamba2": {"num_heads": 4, "head_dim": 16, "n_groups": 1, "state_size": 8, "conv_kernel": 4, "expand": 2, "chunk_size": 8},
}
#: Encoders: the same for models that make vectors.
ENCODERS: dict[str, dict[str, Any]] = {
    "bert": {},
    "distilbert": {"hidden_dim": 48},
    "electra": {"embedding_size": 16},
    "mpnet": {},
    "xlm-roberta": {},
    "nomic_bert": {},
    "modernbert": {"local_attention": 8, "num_hidden_layers": 4, "cls_token_id": 0, "sep_token_id": 1},
    "deberta-v2": {
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 16,
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
        "type_vocab_size": 0,
        "conv_kernel_size": 3,
        "conv_act": "gelu",
    },
}
#: What a config takes instead of what ``SIZES`` says.
_CLASS_OWN = {"mamba2": ("intermediate_size",)}


def config_of(model_type: str) -> Any:
    """The tiny config of ``model_type``."""
    extra = FAMILIES[model_type] if model_type in FAMILIES else ENCODERS[model_type]
    if "text_config" in extra:
        given = extra | {"text_config": SIZES | extra["text_config"], "tie_word_embeddings": True, "initializer_range": 0.1}
        return AutoConfig.for_model(model_type, **given)
    left_out = _CLASS_OWN.get(model_type, ())
    return AutoConfig.for_model(model_type, **{name: value for name, value in (SIZES | extra).items() if name not in left_out})


def model_of(model_type: str, seed: int = 7, spread: float = 1.0) -> PreTrainedModel:
    """A random model in fp32: with nothing at zero, so that no part computes nothing. ``spread`` multiplies all matrices."""
    torch.manual_seed(seed)
    config = config_of(model_type)
    wrapper = "text_config" in FAMILIES.get(model_type, {})
    kind: Any = AutoModel if model_type in ENCODERS else AutoModelForImageTextToText if wrapper else AutoModelForCausalLM
    model: PreTrainedModel = kind.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
            if parameter.ndim > 1:
                parameter.mul_(spread)
    return model.eval()


def write_family(folder: Path, model_type: str, tokenizer: str = "bpe", spread: float = 1.0) -> Path:
    """A folder in Hugging Face form with a tiny random model of ``model_type``."""
    folder.mkdir(parents=True, exist_ok=True)
    model_of(model_type, spread=spread).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(TOKENIZERS[tokenizer]().to_str(), encoding="utf-8")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    if model_type in ENCODERS:
        return describe_in_place(folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    return folder
