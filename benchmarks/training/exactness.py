"""Gradients of our loop against plain HF + PEFT autograd, on the real model, in fp32, with B not zero.

In: the base model's folder, rows. Out: the largest relative error over all trained parameters, as one JSON line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from own import settings
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from workload import ALL_LINEAR, Spec

from tailorbird.training.batches import TokenizedRow, pack
from tailorbird.training.methods import METHODS, Learner
from tailorbird.training.network import Network, read_model


def main() -> None:
    spec = Spec.load(sys.argv[1])
    torch.set_num_threads(spec.threads)
    rows = [
        TokenizedRow(tuple(ids), prompt)
        for ids, prompt in json.loads(Path(spec.rows).read_text(encoding="utf-8"))["train"][: spec.batch_size]
    ]
    learner = Learner(read_model(Path(spec.base), torch.float32, torch.device("cpu")), settings(spec), Path(spec.base))
    parameters = METHODS["lora"].prepare(learner)
    peft = get_peft_model(
        AutoModelForCausalLM.from_pretrained(spec.base, dtype=torch.float32),
        LoraConfig(r=spec.rank, lora_alpha=spec.alpha, target_modules=list(ALL_LINEAR), lora_dropout=0.0),
    )
    theirs, pairs = dict(peft.named_parameters()), {}
    with torch.no_grad():
        for name, parameter in parameters.items():
            if name.endswith(".B"):
                parameter.normal_(std=0.02)
            path, _, side = name.rpartition(".")
            pairs[name] = theirs[f"base_model.model.{path}.lora_{side}.default.weight"]
            pairs[name].copy_(parameter)
    Network(learner.model, "fp32").loss_sum(pack(rows, torch.float32, torch.device("cpu"))).backward()
    for row in rows:
        ids_1T = torch.tensor([row.ids])
        logits_TV = peft(ids_1T[:, :-1]).logits[0, row.prompt - 1 :]
        torch.nn.functional.cross_entropy(logits_TV, ids_1T[0, row.prompt :], reduction="sum").backward()
    errors = {name: float((p.grad - pairs[name].grad).norm() / pairs[name].grad.norm()) for name, p in parameters.items()}
    print(json.dumps({"worst": max(errors.values()), "parameters": len(errors)}))


if __name__ == "__main__":
    main()
