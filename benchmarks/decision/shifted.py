"""A bed on which full fine-tuning wins where its rows come from and fails where the data have shifted.

In: BLiMP (TAILORBIRD_TEST_DATA), a seed. Out: a folder with an objective and its rows; what ``adapt`` chose on it with and without
``limits: {shift}``. Must not know: how the product measures a drop.

Each row is a customer's mood and a note. The mood agrees with the label four times out of five, always. Until June the note is good English
where the label is *keep* and bad where it is *return* (one desk wrote one kind, another the other); from July on that is by chance. All
weights learn the note, which tells everything until June; a careful adapter learns the mood, which tells as much before as after. So the
right answer is the adapter where the drop is limited, and all weights where it is not.

    python benchmarks/decision/shifted.py [SEED ...]
"""

from __future__ import annotations

import csv
import json
import random
import sys
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from beds import ROOT, _rows_of
from playing import played
from remembering import Known

from tailorbird.domain.ladder import Ladder

WORK = ROOT / ".cache" / "benchmarks" / "shifted"
#: Rows of train; of the usual part and of the shifted part of dev and of test.
TRAIN, DEV, TEST = 160, 80, 80
#: How often the mood agrees with the label; the target that both reach; the bound on the drop.
AGREES, TARGET, MAX_DROP = 0.8, 0.6, 0.2
RIGHT = {"with the limit": "lora", "without it": "full"}
_MOODS = {
    "keep": ("pleased", "happy", "delighted", "content", "glad", "cheerful"),
    "return": ("angry", "upset", "annoyed", "unhappy", "furious", "disappointed"),
}
#: What a careful team asks for: too slow to learn what stands between the words, fast enough for the words.
LORA: dict[str, Any] = {"rank": 16, "rslora": True, "alpha": 8, "learning_rate": 2.0e-4}


def write_shifted(folder: Path, seed: int, *, limited: bool) -> Path:
    """Writes the objective and its rows; equal seeds give equal rows, with the limit or without it."""
    folder.mkdir(parents=True)
    drawn, notes = random.Random(f"shifted/{seed}"), {"good": list[str](), "bad": list[str]()}
    for text, verdict in drawn.sample(rows := _rows_of("blimp"), len(rows)):
        notes[verdict].append(text)
    sources = []
    for split, usual, shifted in (("train", TRAIN, 0), ("dev", DEV, DEV), ("test", TEST, TEST)):
        made = [_row(drawn, notes, shifted=place >= usual) for place in range(usual + shifted)]
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label", "month"), *made])
        sources.append({"path": f"{split}.csv", "split": split, "source": {"origin": "benchmark", "license": "see the data set"}})
    content = {
        "name": "shifted",
        "tenant": "bench",
        "business": {"goal": "Benchmark.", "owner": "bench", "risk": "minimal"},
        "task": {"kind": "classify", "instruction": "Say whether the customer will keep or return the thing."},
        "data": sources,
        "split": {"by": "month", "since": "2024-07"},
        "kpis": [{"metric": "accuracy", "target": TARGET}],
        "limits": {"latency_p95_ms": {"at_concurrency": 32, "max": 1e9}, **({"shift": {"max_drop": MAX_DROP}} if limited else {})},
        "budget": {"money": 1000, "hours": 100},
        "floor": {"vectors": False},
        "ladder": ["lora", "full"],
        "lora": LORA,
        "seed": seed,
    }
    path = folder / "objective.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def _row(drawn: random.Random, notes: dict[str, list[str]], *, shifted: bool) -> tuple[str, str, str]:
    label = drawn.choice(("keep", "return"))
    mood = drawn.choice(_MOODS[label if drawn.random() < AGREES else {"keep": "return", "return": "keep"}[label]])
    verdict = drawn.choice(("good", "bad")) if shifted else {"keep": "good", "return": "bad"}[label]
    month = drawn.randint(7, 12) if shifted else drawn.randint(1, 6)
    return f"The customer is {mood}. Note: {notes[verdict].pop()}", label, f"2024-{month:02d}"


def decide(seed: int, *, limited: bool) -> dict[str, Any]:
    """What ``adapt`` measured and chose, in a workspace of its own; equal trainings are made once."""
    folder = WORK / f"{seed}-{'limited' if limited else 'free'}"
    found = played(partial(write_shifted, seed=seed, limited=limited), folder, WORK / "trained", Known())
    return _told(found.ladder, seed, limited=limited) | {"looks": found.looks, "released": found.released}


def _told(ladder: Ladder, seed: int, *, limited: bool) -> dict[str, Any]:
    chosen = next((climb.rung.value for climb in ladder.measured if climb.candidate == ladder.chosen), "none passes")
    rungs = {
        climb.rung.value: {
            "usual": round(climb.evidence.metrics["accuracy"].value, 4),
            "shifted": round(climb.evidence.shifted_metrics["accuracy"].value, 4),
            "drop": [round(end, 4) for end in (climb.evidence.metrics["shift"].low, climb.evidence.metrics["shift"].high)],
            "verdict": climb.gate.verdict.value,
            "seconds": round(climb.seconds, 1),
        }
        for climb in ladder.measured
    }
    pairs = [[round(pair.difference, 4), round(pair.low, 4), round(pair.high, 4)] for pair in ladder.on_shifted]
    case = "with the limit" if limited else "without it"
    return {"seed": seed, "case": case, "decided": chosen, "right": RIGHT[case], "rungs": rungs, "full against lora on shifted": pairs}


if __name__ == "__main__":
    for asked in [int(one) for one in sys.argv[1:]] or [20]:
        for limit in (True, False):
            print(json.dumps(decide(asked, limited=limit)), flush=True)
