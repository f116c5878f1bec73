"""Encoder tuned for labels against the floor with vectors: Banking77, in pairs on the rows of the train file that were not learned.

In: ``DRAWS=0,1,2`` names the draws of rows (quick: one draw of 20 intents), ``LEARNED=10,40`` the messages of an intent that are learned,
``PASSES=4,8`` the passes. Out: per draw both accuracies, their paired difference with a 95 % interval, the seconds that tuning and head
took, and the load of the machine; the difference over all draws. ``OFFICIAL=1`` compares by the official test instead, of which each look
is counted in docs/benchmarks.md; without it that file is not read.
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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from beds import DATA, ROOT

from tailorbird.base_models import pull
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.dataset import Provenance, Row, Split
from tailorbird.inference import open_encoder, open_model_reader
from tailorbird.planning.floor import PASSES, RATE, tuning_settings
from tailorbird.planning.setting_rules import usual_precision
from tailorbird.ports.trainer import LabelJob
from tailorbird.rungs import FloorModel, averaged_rows, fit_floor, prototype_fit
from tailorbird.stats.paired_tests import paired_interval
from tailorbird.training import open_trainer

#: Messages of an intent that are learned, and those that never are: of a rare intent half of what there is. By these, and by those that
#: are left of larger intents, is compared.
LEARNED, COMPARED = "10,40", 20
QUICK_INTENTS = 20
#: Rows from which a plan makes half of the passes.
MANY = 2_000
ENCODER = pull("minilm-l6-v2", Path(os.environ.get("TAILORBIRD_MODELS", ROOT / ".cache" / "models")), open_model_reader)


def run(quick: bool) -> tuple[dict[str, float], dict[str, Any]]:
    """The lower end of the interval over all draws of each size, the longest time of a draw with 10 messages, and all of them."""
    draws = [int(each) for each in os.environ.get("DRAWS", "0" if quick else "0,1,2").split(",")]
    sizes = [int(each) for each in os.environ.get("LEARNED", "10" if quick else LEARNED).split(",")]
    passes = [int(each) for each in os.environ["PASSES"].split(",")] if "PASSES" in os.environ else [0]
    values, detail = dict[str, float](), dict[str, Any]()
    for learned in sizes:
        for many in passes:
            known = [drawn(draw, QUICK_INTENTS if quick else 77, learned) for draw in draws]
            told = [_compared(official(rows) if "OFFICIAL" in os.environ else rows, many) for rows in known]
            differences = [each for one in told for each in one.pop("differences")]
            low, high = paired_interval(differences, [item for one in told for item in one.pop("items")], 0.95)
            whole = {"difference": round(sum(differences) / len(differences), 4), "low": round(low, 4), "high": round(high, 4)}
            detail[f"{learned} messages" + (f", {many} passes" if many else "")] = whole | {"draws": told}
            say(f"{learned} messages: {whole}")
            if many == passes[0]:
                values[f"encoder_minus_floor_{learned}_low"] = low
                if learned == 10:
                    values["encoder_seconds"] = max(one["seconds"] for one in told)
    return values, detail


@dataclass(frozen=True)
class Drawn:
    """Rows to learn and rows to compare by, of ``draw``."""

    draw: int
    train: list[Row]
    compared: list[Row]

    @property
    def labels(self) -> list[str]:
        """Every label that is learned, sorted."""
        return sorted({row.target for row in self.train})

    @property
    def truth(self) -> list[str]:
        """The labels of the rows to compare by."""
        return [row.target for row in self.compared]


def _compared(rows: Drawn, passes: int) -> dict[str, Any]:
    started = time.perf_counter()
    below = _answers(fit_floor(rows.train, rows.labels, rows.draw, embed=partial(open_encoder().embed, ENCODER)), rows.compared)
    fitted = time.perf_counter()
    above, took = tuned_answers(rows, passes)
    return paired(rows, "floor", below, above) | took | {"floor_seconds": round(fitted - started, 1), "load": os.getloadavg()[0]}


def paired(rows: Drawn, other: str, below: Sequence[str], above: Sequence[str]) -> dict[str, Any]:
    """Both accuracies and their difference with its interval; ``differences`` and ``items`` are those of the rows."""
    differences = [float(a == t) - float(b == t) for a, b, t in zip(above, below, rows.truth, strict=True)]
    items = [row.group for row in rows.compared]
    low, high = paired_interval(differences, items, 0.95)
    told = {
        "draw": rows.draw,
        "rows": len(rows.train),
        "compared": len(items),
        other: round(_share(below, rows.truth), 4),
        "encoder": round(_share(above, rows.truth), 4),
        "difference": round(sum(differences) / len(differences), 4),
        "low": round(low, 4),
        "high": round(high, 4),
    }
    say(str(told))
    return told | {"differences": differences, "items": items}


def tuned_answers(rows: Drawn, passes: int = 0) -> tuple[list[str], dict[str, float]]:
    """What the tuned encoder with its head answers, and the seconds of tuning and of both; ``passes`` 0: as many as a plan makes."""
    encoder = open_encoder()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        job = averaged_job(rows.train, rows.labels, rows.draw, Path(folder), passes)
        tuned = open_trainer().tune(job, lambda line: say(f"{line.step} {line.loss:.3f}"))
        trained = time.perf_counter()
        head = prototype_fit(job, tuned.folder, partial(encoder.embed, tuned.folder))(rows.train, rows.labels)
        ended = time.perf_counter()
        seconds = {"tuning_seconds": round(trained - started, 1), "seconds": round(ended - started, 1)}
        return _answers(head, rows.compared), seconds | {"best_step": tuned.report.best_step, "steps": tuned.report.steps}


def drawn(draw: int, intents: int, learned: int) -> Drawn:
    """Of each intent rows to learn and rows to compare by, drawn by hash from the train file."""
    texts: dict[str, set[str]] = defaultdict(set)
    with (DATA / "banking77" / "train.csv").open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            texts[line["category"]].add(line["text"].strip())
    train, compared = list[Row](), list[Row]()
    for label in sorted(texts)[:intents]:
        order = sorted(texts[label], key=lambda text: hashlib.sha256(f"{draw}:{text}".encode()).digest())
        asked = min(COMPARED, len(order) // 2)
        compared += [_row(text, label) for text in order[:asked]]
        train += [_row(text, label) for text in order[asked : asked + learned]]
        compared += [_row(text, label) for text in order[asked + learned :]]
    return Drawn(draw, train, compared)


def official(rows: Drawn) -> Drawn:
    """The same rows to learn, and the official test to compare by."""
    with (DATA / "banking77" / "test.csv").open(newline="", encoding="utf-8") as file:
        return Drawn(rows.draw, rows.train, [_row(line["text"].strip(), line["category"]) for line in csv.DictReader(file)])


def _row(text: str, label: str) -> Row:
    place = Provenance(
        file="banking77", file_digest=digest_bytes(b""), line=1, origin="PolyAI", license="CC-BY-4.0", collected="", consent=""
    )
    name = digest_bytes(text.encode())
    return Row(id=name, text=text, target=label, group=name, split=Split.TRAIN, provenance=place)


def averaged_job(train: Sequence[Row], labels: Sequence[str], seed: int, folder: Path, passes: int = 0) -> LabelJob:
    """What the rung asks the trainer; ``passes`` 0: as many as a plan makes."""
    many = passes or (PASSES if len(train) < MANY else PASSES // 2)
    settings = tuning_settings(RATE, many, seed, os.cpu_count() or 1, usual_precision(open_trainer().measure_machine()))
    texts, parts = averaged_rows(train, labels, seed)
    digest = digest_bytes(b"")
    known = {"base": ENCODER, "base_digest": digest, "snapshot": digest, "settings": settings, "labels": tuple(labels), "alone": False}
    return LabelJob.model_validate(known | {"train": texts, "parts": parts, "held_out": (), "workspace": folder})


def _answers(model: FloorModel, rows: Sequence[Row]) -> list[str]:
    return [str(each.answer) for each in model.predict(rows, 32)]


def _share(answers: Sequence[str], truth: Sequence[str]) -> float:
    return sum(a == t for a, t in zip(answers, truth, strict=True)) / len(truth)


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)
