"""PEFT's mixed batches in process: ``peft_batches.py BASE ADAPTERS COUNT ROUNDS``; prints output tokens per second of each round as JSON."""

from __future__ import annotations

import json
import sys
import time
import warnings

import torch
from engines import TOKENS, messages, turns
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

BATCH = 16


def main(base: str, adapters: str, count: int, rounds: int) -> list[float]:
    tokenizer = AutoTokenizer.from_pretrained(base, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    model = PeftModel.from_pretrained(model, f"{adapters}/0", adapter_name="a0")
    for number in range(1, count):
        model.load_adapter(f"{adapters}/{number}", adapter_name=f"a{number}")
    model = model.to(torch.bfloat16).eval()
    texts = [tokenizer.apply_chat_template(turns(text), tokenize=False, add_generation_prompt=True) for text in messages()]
    found = []
    for number in range(rounds + 1):
        started, made = time.perf_counter(), 0
        for start in range(0, len(texts) if number else BATCH, BATCH):
            batch = tokenizer(texts[start : start + BATCH], return_tensors="pt", padding=True, add_special_tokens=False)
            names = [f"a{(start + place) % count}" for place in range(len(batch["input_ids"]))]
            with torch.inference_mode():
                out = model.generate(**batch, adapter_names=names, max_new_tokens=TOKENS, do_sample=False, pad_token_id=2)
            made += int((out[:, batch["input_ids"].shape[1] :] != 2).sum())
        found.append(made / (time.perf_counter() - started))
    return found[1:]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
