"""Label scoring beside lm-evaluation-harness: items a second over 77 labels, the same model, messages and machine, in turns.

In: how many messages. Out: both rates and their ratio. Each side runs in a process of its own (the harness in an environment that is made
here), scores a warm-up first, and then takes turns with the other, so that what else the machine does falls on both.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PEER = "lm-eval==0.4.13"
VENV = ROOT / ".cache" / "peers" / "evaluation"
#: Turns of each side after its warm-up.
TURNS = 2


def label_scoring(items: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Items a second of both, and ours over theirs. The harness is tried at several batch sizes, and its best counts."""
    work = _work(items)
    sides = {"tailorbird": _Side([sys.executable, str(HERE / "own_scoring.py"), str(work)])}
    for batch in (32, 64):
        sides[f"lm-eval batch {batch}"] = _Side([str(_environment()), str(HERE / "peer_scoring.py"), str(work), str(batch)])
    for name, side in sides.items():
        say(f"  warming up {name}")
        side.turn()
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(TURNS):
        for name, side in sides.items():
            told = side.turn()
            rates[name].append(told["items"] / told["seconds"])
            say(f"  turn {turn + 1}, {name}: {rates[name][-1]:.2f} items/s")
    agreement = _agreement(sides["tailorbird"].last, next(side.last for name, side in sides.items() if name.startswith("lm-eval")))
    for side in sides.values():
        side.end()
    best = max((name for name in rates if name.startswith("lm-eval")), key=lambda name: median(rates[name]))
    return {
        "labels": 77,
        "items_a_turn": items,
        "items_per_second": {name: round(median(found), 3) for name, found in rates.items()},
        "peer_best": best,
        "ratio": median(rates["tailorbird"]) / median(rates[best]),
        "same_answer_share": agreement,
    }


class _Side:
    """A process that scores all items whenever it is told to."""

    def __init__(self, command: list[str]) -> None:
        threads = str(len(os.sched_getaffinity(0)))
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false"}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self.last: dict[str, Any] = {}

    def turn(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("{"):
                self.last = json.loads(line)
                return self.last
        raise SystemExit(f"{self._process.args} ended")

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _agreement(ours: dict[str, Any], theirs: dict[str, Any]) -> float:
    same = [one == other for one, other in zip(ours["answers"], theirs["answers"], strict=True)]
    return sum(same) / len(same)


def _work(items: int) -> Path:
    """Messages as token ids after the chat template, and labels, in a file that both sides read."""
    from tailorbird.base_models import pull
    from tailorbird.chat.prompts import messages_for
    from tailorbird.domain.prompt import PromptSpec
    from tailorbird.inference import open_model_reader

    data = Path(os.environ.get("TAILORBIRD_TEST_DATA", ROOT.parent / "shared" / "data")) / "banking77"
    with next(data.rglob("test.csv")).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    labels = sorted({row["category"] for row in rows})
    assert len(labels) == 77
    base = pull("smollm2-135m", Path(os.environ.get("TAILORBIRD_MODELS", ROOT / ".cache" / "models")), open_model_reader)
    prompt = PromptSpec(instruction="Classify the customer message into one intent.", labels=tuple(labels))
    step = len(rows) // items
    texts = [row["text"] for row in rows[::step][:items]]
    place = ROOT / ".cache" / "benchmarks" / "evaluation.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    conversations = [[message.model_dump() for message in messages_for(prompt, text)] for text in texts]
    place.write_text(json.dumps({"base": str(base), "labels": labels, "conversations": conversations}), encoding="utf-8")
    return place


def _environment() -> Path:
    """The harness's own Python, made once."""
    python = VENV / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        needs = [PEER, "torch>=2.9,<3", "transformers==5.24.*", "accelerate>=1,<2"]
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *needs], check=True, stdout=sys.stderr)
    return python
