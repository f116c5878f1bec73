"""The held-out loss of adapters, by stock PEFT in fp32: one judge for both sides.

In: a Spec, folders of adapters. Out: mean nats per answer token for each, as one JSON line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
from workload import Spec


@torch.no_grad()
def main() -> None:
    spec = Spec.load(sys.argv[1])
    torch.set_num_threads(spec.threads)
    rows = json.loads(Path(spec.rows).read_text(encoding="utf-8"))["held_out"][-spec.held_out :]
    found = []
    for folder in sys.argv[2:]:
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(spec.base, dtype=torch.float32), folder).eval()
        total = tokens = 0.0
        for ids, prompt in rows:
            ids_1T = torch.tensor([ids])
            logits_TV = model(ids_1T[:, :-1]).logits[0, prompt - 1 :]
            total += float(torch.nn.functional.cross_entropy(logits_TV, ids_1T[0, prompt:], reduction="sum"))
            tokens += len(ids) - prompt
        found.append(total / tokens)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
