"""Encoder tuned for labels against the floor with vectors: Banking77, 10 messages an intent, in pairs on rows held out of the train file.

In: ``DRAWS=0,1,2`` names the draws of rows (quick: one draw of 20 intents), ``PASSES=4,8`` the passes. Out: per draw both accuracies,
their paired difference with a 95 % interval, the seconds that tuning and head took, and the load of the machine. The official test is not
read: looks at it are counted.
"""

from __future__ import annotations

import csv
import hashlib
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from beds import DATA, ROOT

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.dataset import Provenance, Row, Split
from tailorbird.inference import open_encoder
from tailorbird.planning.encoder import PASSES, RATE, tuning_settings
from tailorbird.ports.trainer import LabelJob, LabelledText
from tailorbird.rungs import FloorModel, fit_floor
from tailorbird.rungs.context import hold_out
from tailorbird.stats.paired_tests import paired_interval
from tailorbird.training import open_trainer

#: Messages of an intent that are learned, and those that are held out to compare by.
LEARNED, COMPARED = 10, 20
QUICK_INTENTS = 20
ENCODER = Path(os.environ.get("TAILORBIRD_MODELS", ROOT / ".cache" / "models")) / "minilm-l6-v2-a314eabeb67d"


def run(quick: bool) -> tuple[dict[str, float], dict[str, Any]]:
    """The worst lower end of a draw's interval, the longest time of a draw, and all of them."""
    draws = os.environ.get("DRAWS", "0" if quick else "0,1,2").split(",")
    passes = [int(each) for each in os.environ.get("PASSES", str(PASSES)).split(",")]
    told = [_compared(int(draw), many, QUICK_INTENTS if quick else 77) for draw in draws for many in passes]
    usual = [one for one in told if one["passes"] == PASSES] or told
    values = {"encoder_minus_floor_low": min(one["low"] for one in usual), "encoder_seconds": max(one["seconds"] for one in usual)}
    return values, {"draws": told}


def _compared(draw: int, passes: int, intents: int) -> dict[str, Any]:
    train, compared = _rows(draw, intents)
    labels = sorted({row.target for row in train})
    encoder, truth = open_encoder(), [row.target for row in compared]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        floor = fit_floor(train, labels, draw, embed=partial(encoder.embed, ENCODER))
        fitted = time.perf_counter()
        tuned = open_trainer().tune(
            _job(train, labels, draw, passes, Path(folder)), lambda line: _say(f"{line.step} {line.held_out_loss:.3f}")
        )
        trained = time.perf_counter()
        head = fit_floor(train, labels, draw, embed=partial(encoder.embed, tuned.folder))
        ended = time.perf_counter()
        below, above = _answers(floor, compared), _answers(head, compared)
    differences = [float(a == t) - float(b == t) for a, b, t in zip(above, below, truth, strict=True)]
    low, high = paired_interval(differences, [row.group for row in compared], 0.95)
    told = {
        "draw": draw,
        "passes": passes,
        "rows": len(train),
        "compared": len(compared),
        "floor": round(_share(below, truth), 4),
        "encoder": round(_share(above, truth), 4),
        "difference": round(sum(differences) / len(differences), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "best_step": tuned.report.best_step,
        "floor_seconds": round(fitted - started, 1),
        "tuning_seconds": round(trained - fitted, 1),
        "seconds": round(ended - fitted, 1),
        "load": os.getloadavg()[0],
    }
    _say(str(told))
    return told


def _rows(draw: int, intents: int) -> tuple[list[Row], list[Row]]:
    """Of each intent rows to learn and rows to compare by, drawn by hash from the train file."""
    texts: dict[str, set[str]] = defaultdict(set)
    with (DATA / "banking77" / "train.csv").open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            texts[line["category"]].add(line["text"].strip())
    train, compared = list[Row](), list[Row]()
    for label in sorted(texts)[:intents]:
        drawn = sorted(texts[label], key=lambda text: hashlib.sha256(f"{draw}:{text}".encode()).digest())
        compared += [_row(text, label) for text in drawn[:COMPARED]]
        train += [_row(text, label) for text in drawn[COMPARED : COMPARED + LEARNED]]
    return train, compared


def _row(text: str, label: str) -> Row:
    place = Provenance(
        file="train.csv", file_digest=digest_bytes(b""), line=1, origin="PolyAI", license="CC-BY-4.0", collected="", consent=""
    )
    name = digest_bytes(text.encode())
    return Row(id=name, text=text, target=label, group=name, split=Split.TRAIN, provenance=place)


def _job(train: Sequence[Row], labels: Sequence[str], seed: int, passes: int, folder: Path) -> LabelJob:
    settings = tuning_settings(RATE, passes, seed, os.cpu_count() or 1)
    learn, held_out = (tuple(LabelledText(text=row.text, labels=(row.target,)) for row in rows) for rows in hold_out(train, seed))
    digest = digest_bytes(b"")
    known = {"base": ENCODER, "base_digest": digest, "snapshot": digest, "settings": settings, "labels": tuple(labels), "alone": False}
    return LabelJob.model_validate(known | {"train": learn, "held_out": held_out, "workspace": folder})


def _answers(model: FloorModel, rows: Sequence[Row]) -> list[str]:
    return [str(each.answer) for each in model.predict(rows, 32)]


def _share(answers: Sequence[str], truth: Sequence[str]) -> float:
    return sum(a == t for a, t in zip(answers, truth, strict=True)) / len(truth)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
