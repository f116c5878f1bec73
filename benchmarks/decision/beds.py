"""Beds: rows of public data sets, and of one made here, on which objectives of known answers are built.

In: data sets (TAILORBIRD_TEST_DATA), a bed, what its rows are for. Out: a folder with an objective and its files. Must not know: what a
rung reaches, which target is put where.

A bed is small, so that every rung can be made on it in minutes. Its rows fall into four parts that share nothing: ``train``; ``truth``, on
which every rung is measured to know the right answer; ``dev`` and ``test``, on which ``adapt`` decides and never sees the truth.
"""

from __future__ import annotations

import csv
import io
import json
import os
import random
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("TAILORBIRD_TEST_DATA", ROOT.parent / "shared" / "data"))
#: The one KPI.
METRIC = "accuracy"
#: Rows of the sealed test: enough to prove the highest target. It is opened once in a decision and judges nothing here.
TEST = 60
#: Paradigms of BLiMP whose good and bad sentences hold the same words: a determiner and its noun; a subject and its verb, or pronoun.
_PARADIGMS = {
    "blimp": ("determiner_noun_agreement_1", "determiner_noun_agreement_2", "determiner_noun_agreement_with_adjective_1"),
    "blimp_subjects": ("regular_plural_subject_verb_agreement_1", "irregular_plural_subject_verb_agreement_1", "anaphor_number_agreement"),
}
#: Shelves and what lies there. Which thing a customer wants stands between the lines: five things stand in every row.
_SHELVES = {
    "quartz": ("anchor", "mirror", "whistle"), "falcon": ("apron", "needle", "compass"), "cedar": ("basket", "oven", "helmet"),
    "lagoon": ("bench", "pencil", "lantern"), "saffron": ("bottle", "rope", "magnet"), "maple": ("bucket", "saddle", "pillow"),
    "raven": ("candle", "shovel", "ribbon"), "indigo": ("chair", "kettle", "funnel"), "birch": ("clock", "ladder", "blanket"),
    "copper": ("drum", "hammer", "teapot"), "zenith": ("envelope", "guitar", "crayon"), "olive": ("fan", "bridle", "napkin"),
}  # fmt: skip
_WISHES = (
    "Had {one}, {two}, {three}; want {wanted}, not {four}.",
    "Send {wanted}! {one}, {two}, {three}, {four} came.",
    "{one}, {two}, {three} fine, {four} broken; get me {wanted}.",
    "No {one}, {two}, {three} or {four}: need {wanted}.",
    "Ordered {wanted}; returned {one}, {two}, {three}, {four}.",
    "Like my {one}, {two}. Any {wanted}? Sold {three}, {four}.",
)
_WISHES_EACH = 80


@dataclass(frozen=True)
class Bed:
    """``labels`` of a data set; ``train``, ``truth`` and ``dev`` rows a label; ``noise`` the share of training labels drawn anew;
    ``lora`` what a team asks of adapters. ``rows`` is the bed whose rows it shares (empty: its own)."""

    name: str
    data: str
    labels: int
    train: int
    truth: int
    dev: int
    noise: float = 0.0
    lora: Mapping[str, Any] = field(default_factory=dict)
    rows: str = ""

    @property
    def place(self) -> str:
        """What is made from equal rows is kept together."""
        return self.rows or self.name


@dataclass(frozen=True)
class Wanted:
    """What is asked of a bed: the rows that are measured as dev, the target, the ladder, the seed, and the rank (0: the planner's)."""

    measured: Literal["truth", "dev"]
    target: float
    ladder: Literal["auto"] | tuple[str, ...]
    seed: int
    rank: int = 0


def write_objective(bed: Bed, wanted: Wanted, folder: Path) -> Path:
    """Writes the objective and its rows; the same bed has the same rows whatever is wanted of it."""
    folder.mkdir(parents=True)
    parts = _parts(bed)
    files = [_write(folder, split, parts[part]) for split, part in (("train", "train"), ("dev", wanted.measured), ("test", "test"))]
    content = {
        "name": bed.name,
        "tenant": "bench",
        "business": {"goal": "Benchmark.", "owner": "bench", "risk": "minimal"},
        "task": {"kind": "classify", "instruction": _INSTRUCTIONS[bed.data]},
        "data": files,
        "kpis": [{"metric": METRIC, "target": wanted.target}],
        # Nothing is limited by this: what is timed is asked for 32 at a time, which takes a quarter of the time.
        "limits": {"latency_p95_ms": {"at_concurrency": 32, "max": 1e9}},
        "budget": {"money": 1000, "hours": 100},
        # What is decided here was decided on floors that read words and stood beside the ladder.
        "floor": {"vectors": False, "role": "reference"},
        "ladder": wanted.ladder if wanted.ladder == "auto" else list(wanted.ladder),
        "lora": {**bed.lora, **({"rank": wanted.rank} if wanted.rank else {})},
        "seed": wanted.seed,
    }
    path = folder / "objective.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def _parts(bed: Bed) -> dict[str, list[tuple[str, str]]]:
    drawn = random.Random(f"{bed.place}/rows")
    rows, tested = _rows_of(bed.data), -(-TEST // bed.labels)
    needed = bed.train + bed.truth + bed.dev + tested
    fitting = sorted(label for label, count in Counter(label for _, label in rows).items() if count >= needed)
    chosen = sorted(drawn.sample(fitting, bed.labels))
    by_label: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for text, label in drawn.sample(rows, len(rows)):
        by_label[label].append((text, label))
    parts: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for label in chosen:
        start = 0
        for part, count in (("train", bed.train), ("truth", bed.truth), ("dev", bed.dev), ("test", tested)):
            parts[part] += by_label[label][start : start + count]
            start += count
    parts["train"] = [(text, drawn.choice(chosen) if drawn.random() < bed.noise else label) for text, label in parts["train"]]
    return parts


def _write(folder: Path, split: str, rows: list[tuple[str, str]]) -> dict[str, Any]:
    with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return {"path": f"{split}.csv", "split": split, "source": {"origin": "benchmark", "license": "see the data set"}}


_INSTRUCTIONS = {
    "banking77": "Name the intent of the customer's message.",
    "bitext": "Name the intent of the customer's message.",
    "unfair_tos": "Say why this clause of a contract may be unfair.",
    "blimp": "Say whether the sentence is good or bad English.",
    "blimp_subjects": "Say whether the sentence is good or bad English.",
    "wishes": "Name the shelf of the thing that the customer wants.",
}


def _rows_of(name: str) -> list[tuple[str, str]]:
    """Texts of a data set with one label each, every text once."""
    made = {"banking77": _banking, "bitext": _bitext, "unfair_tos": _unfair, "wishes": _wishes}
    return list(dict(_blimp(_PARADIGMS[name]) if name in _PARADIGMS else made[name]()).items())


def _banking() -> Iterator[tuple[str, str]]:
    with (DATA / "banking77" / "train.csv").open(encoding="utf-8", newline="") as file:
        yield from ((row["text"], row["category"].replace("_", " ")) for row in csv.DictReader(file))


def _bitext() -> Iterator[tuple[str, str]]:
    with (DATA / "bitext_support" / "bitext_27answers_6480.csv").open(encoding="utf-8", newline="") as file:
        yield from ((row["instruction"], row["intent"].replace("_", " ")) for row in csv.DictReader(file))


def _unfair() -> Iterator[tuple[str, str]]:
    """Clauses that bear exactly one label."""
    with (DATA / "unfair_tos" / "unfair_tos_en.jsonl").open(encoding="utf-8") as file:
        clauses = [json.loads(line) for line in file]
    yield from ((clause["text"], clause["labels"][0].replace("_", " ")) for clause in clauses if len(clause["labels"]) == 1)


def _wishes() -> Iterator[tuple[str, str]]:
    """What a customer wants among five things, and its shelf; made here."""
    drawn = random.Random("wishes")
    things = sorted(thing for held in _SHELVES.values() for thing in held)
    for shelf, held in _SHELVES.items():
        made: set[str] = set()
        while len(made) < _WISHES_EACH:
            wanted = drawn.choice(held)
            one, two, three, four = drawn.sample([thing for thing in things if thing not in held], 4)
            made.add(drawn.choice(_WISHES).format(one=one, two=two, three=three, four=four, wanted=wanted))
        yield from ((text, shelf) for text in sorted(made))


def _blimp(paradigms: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """One sentence of each minimal pair, good and bad by turns."""
    with zipfile.ZipFile(DATA / "retention" / "BLiMP.zip") as archive:
        for paradigm in paradigms:
            lines = io.TextIOWrapper(archive.open(f"data/{paradigm}.jsonl"), encoding="utf-8")
            for place, pair in enumerate(map(json.loads, lines)):
                verdict = "good" if place % 2 else "bad"
                yield pair[f"sentence_{verdict}"], verdict
