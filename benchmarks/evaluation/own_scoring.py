"""Our side: scores every message against every label when a line comes in."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.deployment import Servable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, PromptSpec
from tailorbird.inference import open_engine

work = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
labels, name = tuple(work["labels"]), digest_bytes(b"base")
prompts = [[Message(**message) for message in conversation] for conversation in work["conversations"]]
engine = open_engine("auto")
engine.load(
    Servable(
        id=name,
        tenant="bench",
        task=TaskKind.CLASSIFY,
        base=work["base"],
        adapter=None,
        weights=None,
        prompt=PromptSpec(instruction="", labels=labels),
    )
)
for _ in sys.stdin:
    started = time.perf_counter()
    scores = [
        score.log_probabilities for start in range(0, len(prompts), 32) for score in engine.score(name, prompts[start : start + 32], labels)
    ]
    seconds = time.perf_counter() - started
    answers = [max(range(len(labels)), key=one.__getitem__) for one in scores]
    print(json.dumps({"items": len(prompts), "seconds": seconds, "answers": answers, "engine": engine.fingerprint()}), flush=True)
