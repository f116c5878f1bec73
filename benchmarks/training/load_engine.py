"""Our engine: ``load_engine.py BASE``; answers eight requests, four at a time, for each line that comes in.

In: a folder of a base model. Out: one JSON object a line: tokens a second, and the seconds that each request took.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from tailorbird.domain.deployment import Servable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, PromptSpec, Sampling
from tailorbird.inference import open_engine

REQUESTS, AT_ONCE, TOKENS = 8, 4, 24
NAME = "sha256:" + hashlib.sha256(b"base").hexdigest()

engine = open_engine("auto")
prompt = PromptSpec(instruction="", labels=())
engine.load(Servable(id=NAME, tenant="bench", task=TaskKind.GENERATE, base=sys.argv[1], adapter=None, weights=None, prompt=prompt))


def ask(number: int) -> tuple[int, float]:
    started = time.perf_counter()
    message = Message(role="user", content=f"Write a long story about the number {number} and how it came to be where it is.")
    (answer,) = engine.generate(NAME, [[message]], Sampling(max_tokens=TOKENS, temperature=0.0))
    return answer.completion_tokens, time.perf_counter() - started


def main() -> None:
    asked = 0
    with ThreadPoolExecutor(AT_ONCE) as clients:
        list(clients.map(ask, range(AT_ONCE)))
        for _ in sys.stdin:
            started = time.perf_counter()
            told = list(clients.map(ask, range(asked, asked + REQUESTS)))
            seconds = time.perf_counter() - started
            asked += REQUESTS
            print(json.dumps({"tokens_per_second": sum(n for n, _ in told) / seconds, "latencies": [took for _, took in told]}), flush=True)


if __name__ == "__main__":
    main()
