"""The harness's side: ``HFLM.loglikelihood`` over (message, label) pairs when a line comes in, as its multiple-choice tasks ask it.

The harness scores a pair a request; a label is the continuation, with the end of turn, as ours. It runs in bf16, as ours does here.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

work, batch = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), int(sys.argv[2])
model = HFLM(pretrained=work["base"], dtype="bfloat16", device="cpu", batch_size=batch)
template = (Path(work["base"]) / "chat_template.jinja").read_text(encoding="utf-8")
model.tokenizer.chat_template = template
contexts = [
    model.tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True) for conversation in work["conversations"]
]
labels = [f"{label}<|im_end|>" for label in work["labels"]]
requests = [
    Instance(request_type="loglikelihood", doc={}, arguments=(context, label), idx=place)
    for context in contexts
    for place, label in enumerate(labels)
]
for _ in sys.stdin:
    started = time.perf_counter()
    nats = [one for one, _ in model.loglikelihood(requests, disable_tqdm=True)]
    seconds = time.perf_counter() - started
    rows = [nats[start : start + len(labels)] for start in range(0, len(nats), len(labels))]
    answers = [max(range(len(labels)), key=row.__getitem__) for row in rows]
    print(json.dumps({"items": len(contexts), "seconds": seconds, "answers": answers}), flush=True)
