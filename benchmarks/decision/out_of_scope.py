"""Requests out of scope on Banking77: three quarters of the intents known, ten hashed draws, by the floor with vectors and the encoder.

In: ``DRAWS=0,1`` names the draws (quick: two), ``SIZES=10,all`` the messages of an intent that are learned, ``RUNGS=floor,encoder``,
``LOOK=1`` a look at the official test, which is counted in ``results/out_of_scope_looks.jsonl``; otherwise rows of the train file that were
held out. Out: per draw the scorer that labels left out chose, the area under the ROC curve of each scorer over held-out rows of known and
unknown intents, and both errors at the threshold that refuses 5 % of known rows.

Nothing of the unknown intents is used to choose: the scorer is chosen as without examples, on labels left out of the known ones.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from beds import DATA, ROOT
from encoder import ENCODER, _row, averaged_job

from tailorbird.domain.dataset import Row
from tailorbird.domain.evidence import ScopeScorer
from tailorbird.inference import open_encoder
from tailorbird.rungs import FloorModel, fit_floor, prototype_fit, remembered, trial_of, with_references
from tailorbird.rungs.floor import Embed, Fit
from tailorbird.stats.roc import auroc, refusal_threshold
from tailorbird.training import open_trainer

KNOWN, STATED = 0.75, 0.05
#: Rows of an intent that choose, and that are measured on; rare intents give a quarter of theirs to each.
DEV, MEASURED = 10, 20
LOOKS = ROOT / "benchmarks" / "results" / "out_of_scope_looks.jsonl"


def run(quick: bool) -> tuple[dict[str, float], dict[str, Any]]:
    """The mean area over the draws of the scorer that was chosen, at the largest size; and all draws."""
    draws = [int(draw) for draw in os.environ.get("DRAWS", "0,1" if quick else "0,1,2,3,4,5,6,7,8,9").split(",")]
    sizes = os.environ.get("SIZES", "10" if quick else "10,40,all").split(",")
    rungs = os.environ.get("RUNGS", "floor" if quick else "floor,encoder").split(",")
    if look := bool(os.environ.get("LOOK")):
        with LOOKS.open("a", encoding="utf-8") as file:
            at = datetime.now(UTC).isoformat(timespec="seconds")
            file.write(json.dumps({"at": at, "draws": draws, "sizes": sizes, "rungs": rungs}) + "\n")
    embed = remembered(partial(open_encoder().embed, ENCODER))
    told = [_drawn(draw, size, rung, embed, look) for size in sizes for rung in rungs for draw in draws]
    means = {
        f"{rung}_{size}": round(fmean(one["auroc"] for one in told if (one["rung"], one["size"]) == (rung, size)), 4)
        for size in sizes
        for rung in rungs
    }
    best = max(means, key=means.__getitem__)
    return {"out_of_scope_auroc": means[best]}, {"split": "test" if look else "held out of train", "means": means, "draws": told}


def _drawn(draw: int, size: str, rung: str, embed: Embed, look: bool) -> dict[str, Any]:
    texts = _texts("train")
    known = sorted(sorted(texts, key=lambda label: _hash(draw, label))[: round(KNOWN * len(texts))])
    train, dev, measured = _split(texts, draw, size)
    if look:
        measured = [_row(text, label) for label, said in _texts("test").items() for text in said]
    learned, dev = [row for row in train if row.target in known], [row for row in dev if row.target in known]
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        fit: Fit = partial(fit_floor, seed=draw, embed=embed)
        if rung == "encoder":
            job = averaged_job(learned, known, draw, Path(folder))
            tuned = open_trainer().tune(job, lambda _: None)
            fit = prototype_fit(job, tuned.folder, remembered(partial(open_encoder().embed, tuned.folder)))
        told = _measured(fit, (learned, dev, measured), known)
    told = {"draw": draw, "size": size, "rung": rung, "rows": len(learned), "seconds": round(time.perf_counter() - started, 1)} | told
    print(told, file=sys.stderr, flush=True)
    return told


def _measured(fit: Fit, rows: tuple[Sequence[Row], Sequence[Row], Sequence[Row]], known: list[str]) -> dict[str, Any]:
    learned, dev, measured = rows
    model = with_references(fit(learned, known), learned)
    trial = trial_of(fit, (learned, dev), known, 0.9)
    assert trial is not None
    chosen = trial.best.scorer
    ours, theirs = (_scored(model, [row for row in measured if (row.target in known) is side]) for side in (True, False))
    threshold = refusal_threshold(_by(_scored(model, dev), chosen), STATED)
    assert threshold is not None
    return {
        "scorer": chosen.value,
        "left_out": {each.scorer.value: round(each.auroc, 4) for each in trial.scorers},
        "areas": {scorer.value: round(auroc(_by(ours, scorer), _by(theirs, scorer)), 4) for scorer in ScopeScorer},
        "auroc": auroc(_by(ours, chosen), _by(theirs, chosen)),
        "known_refused": round(float((_by(ours, chosen) < threshold).mean()), 4),
        "out_of_scope_answered": round(float((_by(theirs, chosen) >= threshold).mean()), 4),
        "measured": [len(ours), len(theirs)],
    }


def _scored(model: FloorModel, rows: Sequence[Row]) -> list[dict[ScopeScorer, float]]:
    return model.scopes(model.scores([row.text for row in rows]))


def _by(scores: Sequence[dict[ScopeScorer, float]], scorer: ScopeScorer) -> Any:
    import numpy as np

    return np.array([each[scorer] for each in scores])


def _texts(split: str) -> dict[str, list[str]]:
    texts: dict[str, dict[str, None]] = defaultdict(dict)
    with (DATA / "banking77" / f"{split}.csv").open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            texts[line["category"]][line["text"].strip()] = None
    return {label: list(said) for label, said in texts.items()}


def _split(texts: dict[str, list[str]], draw: int, size: str) -> tuple[list[Row], list[Row], list[Row]]:
    """Rows to learn, to choose by, and to measure on, drawn by hash from the train file."""
    train, dev, measured = list[Row](), list[Row](), list[Row]()
    for label, said in texts.items():
        drawn = sorted(said, key=lambda text: _hash(draw, text))
        first = min(MEASURED, len(drawn) // 4)
        second = first + min(DEV, len(drawn) // 4)
        measured += [_row(text, label) for text in drawn[:first]]
        dev += [_row(text, label) for text in drawn[first:second]]
        train += [_row(text, label) for text in drawn[second:][: None if size == "all" else int(size)]]
    return train, dev, measured


def _hash(draw: int, text: str) -> bytes:
    return hashlib.sha256(f"{draw}:{text}".encode()).digest()
