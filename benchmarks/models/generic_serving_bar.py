"""Throughput of transformers' pass in the engine against PEFT's ``adapter_names``: 16 requests at a time, eight adapters mixed.

The model is Qwen3-like with random weights of about 130 million parameters. Both sides compute in the same number format, with the same
threads, in this process and in turns.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent / "tests")]

import torch  # noqa: E402
from peft import LoraConfig, PeftModel, get_peft_model  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config  # noqa: E402

from support.model_families import write_family  # noqa: E402
from support.oracle import conversation, servable  # noqa: E402
from tailorbird.domain.prompt import Sampling  # noqa: E402
from tailorbird.inference import open_engine  # noqa: E402
from tailorbird.inference.forward.weights import place  # noqa: E402

ADAPTERS, BATCH, TOKENS = 8, 16, 32
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SIZES = {
    "vocab_size": 49152, "hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 14, "num_attention_heads": 12,
    "num_key_value_heads": 4, "head_dim": 64, "max_position_embeddings": 4096, "tie_word_embeddings": True, "bos_token_id": 0,
    "eos_token_id": 1, "pad_token_id": 1,
}  # fmt: skip


def write_model(folder: Path) -> Path:
    """The base with its tokenizer, and eight adapters of rank 16 beside it."""
    base = write_family(folder / "base", "qwen3")
    torch.manual_seed(1)
    made: Any = AutoModelForCausalLM
    model = made.from_config(Qwen3Config(**SIZES), dtype=torch.float32)
    model.save_pretrained(base)
    tuned = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=TARGETS, task_type="CAUSAL_LM"))
    for number in range(ADAPTERS):
        for name, parameter in tuned.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.02)
        tuned.save_pretrained(folder / f"adapter{number}")
    return base


def prompts() -> list[Any]:
    return [conversation(f"Payment number {number} was taken twice, and nobody answers. " * (1 + number % 3)) for number in range(BATCH)]


def ours(folder: Path, base: Path) -> Callable[[], float]:
    """Output tokens a second of one batch, by the engine."""
    engine: Any = open_engine("auto")
    wanted = [servable(base, f"a{number}", adapter=folder / f"adapter{number}") for number in range(ADAPTERS)]
    for one in wanted:
        engine.load(one)
    from support.family_checks import Answers
    from tailorbird.ports.engine import GenerateRequest

    def run() -> float:
        sampling = Sampling(max_tokens=TOKENS)
        requests = [
            GenerateRequest(release=wanted[at % ADAPTERS].id, prompt=tuple(prompt), sampling=sampling)
            for at, prompt in enumerate(prompts())
        ]
        started = time.perf_counter()
        before = engine.state().generated_tokens
        Answers(engine, requests)
        return float(engine.state().generated_tokens - before) / (time.perf_counter() - started)

    return run


def theirs(folder: Path, base: Path) -> Callable[[], float]:
    """The same by PEFT."""
    tokenizer = AutoTokenizer.from_pretrained(base, padding_side="left")
    dtype = place("auto").dtype
    model: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=dtype), folder / "adapter0", adapter_name="a0")
    for number in range(1, ADAPTERS):
        model.load_adapter(folder / f"adapter{number}", adapter_name=f"a{number}")
    model = model.to(dtype).eval()

    def run() -> float:
        texts = [
            tokenizer.apply_chat_template([each.model_dump() for each in prompt], tokenize=False, add_generation_prompt=True)
            for prompt in prompts()
        ]
        started = time.perf_counter()
        batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        batch.pop("token_type_ids", None)
        names = [f"a{at % ADAPTERS}" for at in range(BATCH)]
        with torch.inference_mode():
            out = model.generate(**batch, adapter_names=names, max_new_tokens=TOKENS, do_sample=False, pad_token_id=1)
        return float((out[:, batch["input_ids"].shape[1] :] != 1).sum()) / (time.perf_counter() - started)

    return run


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    times = 2 if parser.parse_args().quick else 7
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        base = write_model(folder)
        sides = {"ours": ours(folder, base), "peft": theirs(folder, base)}
        found: dict[str, list[float]] = {name: [] for name in sides}
        for side in sides.values():
            side()
        for _ in range(times):
            for name, side in sides.items():
                found[name].append(round(side(), 1))
                print(name, found[name][-1], file=sys.stderr, flush=True)
    ratio = round(median(found["ours"]) / median(found["peft"]), 3)
    bar = {"value": ratio, "bar": 2.0, "aim": 4.0, "unit": "ratio", "holds": ratio >= 2.0, "in": "full", "rounds": found}
    print(json.dumps({"generic_eight_adapters_vs_peft": bar}))


if __name__ == "__main__":
    main()
