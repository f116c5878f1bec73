"""Answers to customers on Bitext's support set: the best rung minus zero-shot, in ROUGE-L, on rows that chose nothing.

In: bitext_support (TAILORBIRD_TEST_DATA), 4,514 messages of 27 intents, each with an answer written by a language model. Out: the lower end
of the paired difference on the test rows, clustered by intent: answers to one intent resemble one another. The rung is chosen on dev.
"""

from __future__ import annotations

import csv
import io
import random
from collections import defaultdict
from typing import Any

from climb import DATA, by_cluster, climbed, say

from tailorbird.domain.dataset import Split
from tailorbird.domain.objective import TaskKind
from tailorbird.evaluation.comparison import ComparisonRule, compare
from tailorbird.evaluation.measure_spec import MeasureSpec
from tailorbird.evaluation.metrics import metrics_of

BARS = {"bitext_best_minus_zero_shot_low": (0.0, 0.10, "ROUGE-L", False)}
METRIC, CONFIDENCE, SEED = "rouge_l", 0.95, 20
#: Rows an intent in train, dev and test.
SIZES = {False: (5, 2, 4), True: (4, 2, 2)}
INSTRUCTION = "You answer customers of an online shop. Say in a few sentences or steps what the customer can do."


def run(quick: bool) -> tuple[dict[str, float], dict[str, Any]]:
    """The value of the bar, and every rung beside it."""
    parts = _parts(SIZES[quick])
    found = climbed("bitext_quick" if quick else "bitext", _objective(), {f"{split}.csv": _csv(rows) for split, rows in parts.items()})
    spec = MeasureSpec(TaskKind.GENERATE, (), CONFIDENCE, SEED, found.deps.prices.per_hour)
    rows = found.rows(Split.TEST)
    intents = {row["text"]: row["intent"] for part in parts.values() for row in part}
    clusters = {row.id: intents[row.text] for row in rows}
    zero_shot = next(climb for climb in found.climbs if climb.variant == "zero-shot")
    best = found.best(METRIC)
    items = {climb.candidate: by_cluster(found.measured(climb, rows, spec), clusters) for climb in (zero_shot, best)}
    rule = ComparisonRule(metric=METRIC, margin=0.02, confidence=CONFIDENCE, seed=SEED)
    compared = compare(best.candidate, zero_shot.candidate, items[best.candidate], items[zero_shot.candidate], rule)
    say(f"{best.variant} minus zero-shot: {compared.difference:+.3f} [{compared.low:+.3f}, {compared.high:+.3f}]")
    on_test = {climb.variant: metrics_of(items[climb.candidate], spec) for climb in (zero_shot, best)}
    detail = {
        "rows": found.manifest.counts.model_dump(),
        "intents": len(set(clusters.values())),
        "confidence": CONFIDENCE,
        "dev": {
            f"{climb.rung.value} {climb.variant}": _told(climb.evidence.metrics) | {"seconds": round(climb.seconds)}
            for climb in found.climbs
        },
        "test": {variant: _told(metrics) for variant, metrics in on_test.items()},
        "difference": {"value": round(compared.difference, 4), "low": round(compared.low, 4), "high": round(compared.high, 4)},
    }
    return {"bitext_best_minus_zero_shot_low": compared.low}, detail


def _told(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: [round(end, 4) for end in (metrics[name].value, metrics[name].low, metrics[name].high)] for name in ("rouge_l", "chrf")}


def _objective() -> dict[str, Any]:
    source = {"origin": "Bitext customer support", "license": "CDLA-Sharing-1.0", "collected": "unknown", "consent": "synthetic"}
    return {
        "name": "bitext",
        "tenant": "bench",
        "business": {"goal": "Benchmark.", "owner": "bench", "risk": "minimal"},
        "task": {"kind": "generate", "instruction": INSTRUCTION},
        "data": [
            {"path": f"{split}.csv", "text": "text", "label": "label", "split": split, "source": source}
            for split in ("train", "dev", "test")
        ],
        "kpis": [{"metric": METRIC, "target": 0.05}],
        # Nothing is limited by this: what is timed is asked for 32 at a time, which takes a quarter of the time.
        "limits": {"latency_p95_ms": {"at_concurrency": 32, "max": 1e9}},
        "budget": {"money": 1000, "hours": 100},
        "ladder": ["prompt", "lora"],
        "lora": {"epochs": 2},
        "seed": SEED,
    }


def _parts(sizes: tuple[int, int, int]) -> dict[str, list[dict[str, str]]]:
    """Rows of each intent for train, dev and test, each message and each answer once; the order is drawn."""
    with (DATA / "bitext_support" / "bitext_responses_4514.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    random.Random(SEED).shuffle(rows)
    by_intent: defaultdict[str, dict[str, dict[str, str]]] = defaultdict(dict)
    for row in rows:
        text = row["instruction"].strip()
        by_intent[row["intent"]].setdefault(text.lower(), {"text": text, "label": row["response"].strip(), "intent": row["intent"]})
    parts: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
    for intent in sorted(by_intent):
        drawn, start = list(by_intent[intent].values()), 0
        for split, count in zip(("train", "dev", "test"), sizes, strict=True):
            parts[split] += drawn[start : start + count]
            start += count
    return parts


def _csv(rows: list[dict[str, str]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows([("text", "label"), *((row["text"], row["label"]) for row in rows)])
    return out.getvalue()
