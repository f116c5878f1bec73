"""Answers of a small encoder beside another process that computes with all cores: with the watch over barriers, and without it.

In: MiniLM of the catalogue, a machine that is quiet when this starts. Out: the 95th percentile of the time of an answer with the watch, as
a share of that without; and alone, how fast answers follow with the watch, by how fast without. Sides take turns, each in a process of its
own; medians of the rounds' ratios. Without: ``GOMP_SPINCOUNT`` says what is OpenMP's default anyway, which the watch leaves alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from cases import ROOT
from estimates import say

SIDES = {"watched": "", "unwatched": "300000"}
_SECONDS = 6.0
_ANSWERS = """
import json, sys, time
from pathlib import Path
from tailorbird.base_models import pull
from tailorbird.inference import open_encoder, open_model_reader
folder, encoder = pull("minilm-l6-v2", Path(sys.argv[1]), open_model_reader), open_encoder()
text, taken, until = ["where is the parcel that I ordered on monday, and who can help me with it please"], [], 0.0
for number in range(1_000_000):
    begun = time.perf_counter()
    if number == 100:  # by then both sides are warm, and the watch has seen what there is to see
        taken, until = [], begun + float(sys.argv[2])
    elif number > 100 and begun > until:
        break
    encoder.embed(folder, text)
    taken.append(time.perf_counter() - begun)
print(json.dumps(taken))
"""
_OTHERS = "import torch\nsquare = torch.randn(700, 700)\nwhile True:\n    square @ square\n    torch.relu(square)\n"


def run(quick: bool) -> tuple[dict[str, float], dict[str, Any]]:
    """Values of the bars, and the detail beside them."""
    rows: list[dict[str, float]] = []
    for number in range(1 if quick else 5):
        row: dict[str, float] = {}
        for side in sorted(SIDES, reverse=bool(number % 2)):
            alone = _answers(SIDES[side])
            with _others():
                beside = _answers(SIDES[side])
            row |= {f"{side}_alone": len(alone) / sum(alone), f"{side}_beside": len(beside) / sum(beside)}
            row |= {f"{side}_alone_p95": _p95(alone), f"{side}_beside_p95": _p95(beside)}
            say(f"{side}: alone {row[f'{side}_alone']:.0f} answers/s; beside {row[f'{side}_beside']:.0f}, p95 {1000 * _p95(beside):.0f} ms")
        rows.append(row)
    values = {
        "crowded_encoder_p95": median(row["watched_beside_p95"] / row["unwatched_beside_p95"] for row in rows),
        "crowded_encoder_pace_alone": median(row["watched_alone"] / row["unwatched_alone"] for row in rows),
    }
    return values, {"rounds": [{name: round(value, 4) for name, value in row.items()} for row in rows]}


def _answers(spins: str) -> list[float]:
    """Seconds of each answer."""
    environment = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    environment |= {"GOMP_SPINCOUNT": spins} if spins else {}
    models = os.environ.get("TAILORBIRD_MODELS", str(ROOT / ".cache" / "models"))
    command = [sys.executable, "-c", _ANSWERS, models, str(_SECONDS)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return list(json.loads(done.stdout.splitlines()[-1]))


@contextmanager
def _others() -> Iterator[None]:
    running = subprocess.Popen([sys.executable, "-c", _OTHERS])
    try:
        time.sleep(3)
        yield
    finally:
        running.kill()
        running.wait()


def _p95(taken: list[float]) -> float:
    return sorted(taken)[int(0.95 * len(taken))]
