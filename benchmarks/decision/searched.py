"""Searched prompt against few-shot: 40 intents of Banking77 (classify), Bitext's replies of a desk (generate), in pairs on fresh rows.

In: ``CALLS=400,400`` for the two sets, ``SETS=banking77,bitext``; quick: few intents and calls. Out: of each set both scores, their paired
difference with a 97.5 % interval (one of two sets may be ahead by chance), what the search tried, its seconds, and the load of the machine.
Official tests are not read: looks at them are counted.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from beds import DATA, ROOT

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.dataset import Provenance, Row, Split
from tailorbird.domain.ladder import Candidate
from tailorbird.domain.objective import Objective, TaskKind
from tailorbird.domain.plan import Estimate, RungPlan
from tailorbird.domain.prompt import SEARCHED_SHOTS, SEARCHED_SHOTS_WITHOUT_LABELS, Sampling
from tailorbird.evaluation.predictions import PredictionRequest, engine_predictions
from tailorbird.inference import open_encoder, open_engine
from tailorbird.planning.setting_rules import MOST_SHOTS, SHOTS_WITHOUT_LABELS
from tailorbird.ports.engine import LocalEngine
from tailorbird.rungs import RungContext, RungResult, make_candidate
from tailorbird.rungs.label_thresholds import trial_servable
from tailorbird.stats.paired_tests import paired_interval
from tailorbird.text.words import rouge_l

BASE = Path(os.environ.get("TAILORBIRD_MODELS", ROOT / ".cache" / "models")) / "smollm2-135m-add3f760c10f"
CONFIDENCE, SEED = 0.975, 20
_NOTHING = digest_bytes(b"")


@dataclass(frozen=True)
class _Set:
    """``learned`` and ``fresh`` rows an intent, of ``intents``; ``calls`` of the search."""

    name: str
    kind: TaskKind
    instruction: str
    intents: int
    learned: int
    fresh: int
    calls: int


_SETS = {
    "banking77": _Set("banking77", TaskKind.CLASSIFY, "Name the intent of the customer's message.", 40, 10, 8, 400),
    "bitext": _Set(
        "bitext",
        TaskKind.GENERATE,
        "Write our reply to the customer's message, as our desk writes it.",
        27,
        8,
        8,
        400,
    ),
}
_QUICK = {"intents": 6, "learned": 8, "fresh": 4}
_QUICK_CALLS = {"banking77": 150, "bitext": 60}


def run(quick: bool) -> tuple[dict[str, float], dict[str, Any]]:
    """The lower ends of both intervals, the longest search, and all that was found."""
    engine = open_engine()
    told = {}
    try:
        for name, calls in _asked(quick):
            told[name] = _compared(_SETS[name], calls, quick, engine)
            print(told[name], file=sys.stderr, flush=True)
    finally:
        engine.close()
    values = {f"searched_minus_few_shot_{name}_low": one["low"] for name, one in told.items()}
    return values | {"searched_seconds": max(one["search_seconds"] for one in told.values())}, told


def _asked(quick: bool) -> list[tuple[str, int]]:
    names = os.environ.get("SETS", ",".join(_SETS)).split(",")
    calls = [_QUICK_CALLS[name] if quick else _SETS[name].calls for name in names]
    given = os.environ.get("CALLS")
    return list(zip(names, map(int, given.split(",")) if given else calls, strict=True))


def _compared(one: _Set, calls: int, quick: bool, engine: LocalEngine) -> dict[str, Any]:
    train, fresh, intents = _rows(one, quick)
    labels = tuple(sorted({row.target for row in train})) if one.kind is TaskKind.CLASSIFY else ()
    shots = min(len(labels) or SHOTS_WITHOUT_LABELS, MOST_SHOTS)
    few = _made(one, ("prompt", "few-shot", shots, 0), train, labels, engine)
    most = shots * (SEARCHED_SHOTS if labels else SEARCHED_SHOTS_WITHOUT_LABELS)
    searched = _made(one, ("prompt-search", f"{calls} calls", most, calls), train, labels, engine)
    below, above = (_scores(one, made, fresh, train, labels, engine) for made in (few, searched))
    differences = [upper - lower for upper, lower in zip(above, below, strict=True)]
    groups = [row.id for row in fresh] if one.kind is TaskKind.CLASSIFY else [intents[row.id] for row in fresh]
    low, high = paired_interval(differences, groups, CONFIDENCE)
    log = searched.search
    assert log is not None
    return {
        "rows": len(train),
        "fresh": len(fresh),
        "few_shot": round(sum(below) / len(below), 4),
        "searched": round(sum(above) / len(above), 4),
        "difference": round(sum(differences) / len(differences), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "few_shot_seconds": round(few.seconds, 1),
        "search_seconds": round(searched.seconds, 1),
        "calls": log.calls,
        "dropped": log.dropped,
        "found": next(tried.origin for tried in log.tried if tried.prompt == log.chosen),
        "tried": [[tried.origin, tried.rows, round(tried.score, 4), round(tried.difference, 4)] for tried in log.tried],
        "on_held_out": [log.compared, round(log.difference, 4), round(log.low, 4), round(log.high, 4)],
        "priors": bool(searched.candidate.prompt.priors),
        "load": os.getloadavg()[0],
    }


def _made(one: _Set, planned: tuple[str, str, int, int], train: Sequence[Row], labels: tuple[str, ...], engine: LocalEngine) -> RungResult:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        made = make_candidate(_context(one, planned, train, labels, engine, Path(folder)))
        print(f"{one.name} {planned[1]}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
        return made


def _context(
    one: _Set, planned: tuple[str, str, int, int], train: Sequence[Row], labels: tuple[str, ...], engine: LocalEngine, folder: Path
) -> RungContext:
    rung, variant, shots, calls = planned
    nothing = Estimate(low=0, likely=0, high=0, unit="s")
    costs = {"time": nothing, "memory": nothing, "money": nothing}
    plan = {"rung": rung, "variant": variant, "training": None, "shots": shots, "calls": calls, "reasons": (), **costs}
    known: dict[str, Any] = dict.fromkeys(("artifacts", "trainer"))
    return RungContext(
        objective=_objective(one),
        plan=RungPlan.model_validate(plan),
        base=_BASE,
        base_folder=BASE,
        snapshot=_NOTHING,
        labels=labels,
        label_sets=(),
        train=tuple(train),
        dev=(),
        documents=(),
        encoder_folder=None,
        encoder=open_encoder,
        engine=lambda: engine,
        workspace=folder,
        indexes=folder,
        report=lambda _: None,
        progress=lambda text: print(f"  {text}", file=sys.stderr, flush=True),
        **known,
    )


def _objective(one: _Set) -> Objective:
    return Objective.model_validate({
        "name": one.name,
        "tenant": "bench",
        "business": {"goal": "Benchmark.", "owner": "bench", "risk": "minimal"},
        "task": {"kind": one.kind.value, "instruction": one.instruction},
        "data": [{"path": "rows.csv", "source": {"origin": "see the data set", "license": "see the data set"}}],
        "kpis": [{"metric": "accuracy" if one.kind is TaskKind.CLASSIFY else "rouge_l", "target": 0.5}],
        "seed": SEED,
    })  # fmt: skip


_BASE = BaseModelRef(
    name="smollm2-135m", digest=_NOTHING, tokenizer_digest=_NOTHING, chat_template_digest=_NOTHING, license="Apache-2.0",
    parameters=134_515_008, hidden=576, layers=30, vocabulary=49_152, context=8_192, intermediate=1_536, linear_shapes={},
)  # fmt: skip


def _scores(
    one: _Set, made: RungResult, rows: Sequence[Row], train: Sequence[Row], labels: tuple[str, ...], engine: LocalEngine
) -> list[float]:
    """Right or wrong (classify), or ROUGE-L (generate), of each row."""
    candidate: Candidate = made.candidate
    servable = trial_servable(_context(one, ("prompt", "", 0, 0), train, labels, engine, Path()), candidate.prompt)
    engine.load(servable)
    try:
        request = PredictionRequest(engine, servable, tuple(rows), lambda *_: None, Sampling(max_tokens=256), timed=0)
        answers = [found.answer for found in engine_predictions(request)]
    finally:
        engine.unload(servable.id)
    if one.kind is TaskKind.CLASSIFY:
        return [float(answer == row.target) for answer, row in zip(answers, rows, strict=True)]
    return [rouge_l(answer or "", row.target) for answer, row in zip(answers, rows, strict=True)]


def _rows(one: _Set, quick: bool) -> tuple[list[Row], list[Row], dict[str, str]]:
    """Rows to learn from and fresh rows of each intent, drawn by hash, and the intent of each row. No text is there twice, but for
    numbers."""
    intents, learned, fresh = (_QUICK[key] if quick else getattr(one, key) for key in ("intents", "learned", "fresh"))
    by_intent: dict[str, dict[str, str]] = defaultdict(dict)
    seen = set[str]()
    for intent, text, answer in _banking77() if one.name == "banking77" else _bitext():
        if (bare := re.sub(r"\d+", "", text)) not in seen:
            by_intent[intent][text] = answer
        seen.add(bare)
    train, compared, of = list[Row](), list[Row](), dict[str, str]()
    for intent in sorted(by_intent)[:intents]:
        drawn = sorted(by_intent[intent], key=lambda text: hashlib.sha256(f"{SEED}:{text}".encode()).digest())
        rows = [_row(text, by_intent[intent][text]) for text in drawn[: fresh + learned]]
        compared += rows[:fresh]
        train += rows[fresh:]
        of |= {row.id: intent for row in rows}
    return train, compared, of


def _banking77() -> Iterator[tuple[str, str, str]]:
    with (DATA / "banking77" / "train.csv").open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            yield line["category"], line["text"].strip(), line["category"]


def _bitext() -> Iterator[tuple[str, str, str]]:
    with (DATA / "bitext_support" / "bitext_27answers_6480.csv").open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            yield line["intent"], " ".join(line["instruction"].casefold().split()), line["response"].strip()


def _row(text: str, target: str) -> Row:
    place = Provenance(file="rows", file_digest=_NOTHING, line=1, origin="", license="", collected="", consent="")
    name = digest_bytes(text.encode())
    return Row(id=name, text=text, target=target, group=name, split=Split.TRAIN, provenance=place)
