"""Random bases of about 130 million parameters, where only speed is measured, with a given model's tokenizer."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

SIZES = {
    "vocab_size": 49152, "hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 14, "num_attention_heads": 12,
    "num_key_value_heads": 4, "head_dim": 64, "max_position_embeddings": 4096, "tie_word_embeddings": True,
}  # fmt: skip
#: What a family takes beside ``SIZES``. Gemma 3 looks at everything in each sixth layer, and at 512 tokens in the others.
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen3": {},
    "gemma3_text": {
        "layer_types": ["full_attention" if at % 6 == 5 else "sliding_attention" for at in range(14)],
        "sliding_window": 512,
        "query_pre_attn_scalar": 64,
    },
}
#: What the engine computes by transformers' pass: scores and logits are capped, or queries and keys normed over all heads.
GENERIC_FAMILIES: dict[str, dict[str, Any]] = {
    "gemma2": {**FAMILIES["gemma3_text"], "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    "olmo2": {},
}


def write_random_base(folder: Path, family: str, like: Path) -> Path:
    """A random model of ``family`` in ``folder``, as Hugging Face lays it out, with tokenizer, template and special tokens of ``like``."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(like / file, folder / file)
    known: Any = AutoConfig.from_pretrained(like)
    special = {name: getattr(known, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = AutoConfig.for_model(family, **SIZES, **(FAMILIES | GENERIC_FAMILIES)[family], **special)
    torch.manual_seed(1)
    made: Any = AutoModelForCausalLM
    made.from_config(config, dtype=torch.float32).save_pretrained(folder)
    return folder
