"""Throughput of transformers' pass in the engine against PEFT's ``adapter_names``: 16 requests at a time, eight adapters mixed.

The models are Gemma2-like and OLMo2-like, with random weights of about 130 million parameters (``random_bases.py``). Both sides compute in
the same number format, with the same threads, in this process and in turns. PEFT in fp32 is measured too, and the faster of its two counts.
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
from random_bases import GENERIC_FAMILIES, write_random_base  # noqa: E402
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: E402

from support.oracle import conversation, servable  # noqa: E402
from tailorbird.domain.prompt import Sampling  # noqa: E402
from tailorbird.inference import open_engine, open_model_reader  # noqa: E402
from tailorbird.inference.forward.weights import place  # noqa: E402

ADAPTERS, BATCH, TOKENS = 8, 16, 32
#: Seconds between two sides: the engine's thread ends after two without work, and with it the threads that OpenMP keeps for it, which would
#: slow down whoever computes next.
APART = 3.0
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def write_adapters(base: Path, folder: Path) -> None:
    """Eight adapters of rank 16."""
    made: Any = AutoModelForCausalLM
    tuned = get_peft_model(made.from_pretrained(base), LoraConfig(r=16, lora_alpha=32, target_modules=TARGETS, task_type="CAUSAL_LM"))
    for number in range(ADAPTERS):
        for name, parameter in tuned.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.02)
        tuned.save_pretrained(folder / f"adapter{number}")


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


def theirs(folder: Path, base: Path, dtype: torch.dtype) -> Callable[[], float]:
    """The same by PEFT."""
    tokenizer = AutoTokenizer.from_pretrained(base, padding_side="left")
    model: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=dtype), folder / "adapter0", adapter_name="a0")
    for number in range(1, ADAPTERS):
        model.load_adapter(folder / f"adapter{number}", adapter_name=f"a{number}")
    model = model.to(dtype).eval()
    end = model.config.eos_token_id

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
            out = model.generate(**batch, adapter_names=names, max_new_tokens=TOKENS, do_sample=False, pad_token_id=end)
        return float((out[:, batch["input_ids"].shape[1] :] != end).sum()) / (time.perf_counter() - started)

    return run


def compared(family: str, like: Path, rounds: int) -> dict[str, Any]:
    """The bar of one family."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        base = write_random_base(folder / "base", family, like)
        write_adapters(base, folder)
        dtype = place("auto").dtype
        sides = {"ours": ours(folder, base), f"peft {dtype}": theirs(folder, base, dtype)}
        if dtype != torch.float32:
            sides["peft torch.float32"] = theirs(folder, base, torch.float32)
        found: dict[str, list[float]] = {name: [] for name in sides}
        for side in sides.values():
            side()
        for _ in range(rounds):
            for name, side in sides.items():
                time.sleep(APART)
                found[name].append(round(side(), 1))
                print(family, name, found[name][-1], file=sys.stderr, flush=True)
    best = max(median(rates) for name, rates in found.items() if name != "ours")
    ratio = round(median(found["ours"]) / best, 3)
    return {"value": ratio, "bar": 2.0, "aim": 4.0, "unit": "ratio", "holds": ratio >= 2.0, "in": "full", "rounds": found}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    rounds = 2 if parser.parse_args().quick else 7
    warnings.simplefilter("ignore")
    from tailorbird.base_models import pull

    like = pull("smollm2-135m", HERE.parents[1] / ".cache" / "models", open_model_reader)
    print(json.dumps({f"generic_eight_adapters_vs_peft_{family}": compared(family, like, rounds) for family in GENERIC_FAMILIES}))


if __name__ == "__main__":
    main()
