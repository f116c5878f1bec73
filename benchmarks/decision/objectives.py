"""Objectives whose right answer is known from exhaustive runs, and what ``adapt`` decides on them.

In: beds. Out: wrong decisions. First every rung is made on a bed with three seeds and measured on its ``truth`` rows. Then a target is put,
by the rule of ``target_for``, between what the meant rung truly reaches and what anything cheaper does: so the right answer is known. Then
``adapt`` decides with ``ladder: auto`` on dev rows that were no part of this, with the same three seeds. Which objectives there are follows
from the rule alone. Equal trainings and scores are made once (``remembering.py``). What is done is kept line by line in
``benchmarks/results/objectives.jsonl``, so that a run that was ended goes on.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean
from typing import Any

import known_answers
from beds import METRIC, ROOT, Bed, Wanted, write_objective
from kinds import KINDS
from playing import played
from remembering import Known

from tailorbird.domain.ladder import Climb, Ladder

RESULTS = ROOT / "benchmarks" / "results" / "objectives.jsonl"
WORK = ROOT / ".cache" / "benchmarks" / "objectives"
SEEDS = (20, 21, 22)

#: Answers, cheapest first. The floor stands beside the ladder, and is the answer where it passes.
FLOOR, PROMPT, SMALL, LARGER, FULL, NONE = "floor", "prompt or nearest", "lora", "larger lora", "full", "none passes"
ANSWERS = (FLOOR, PROMPT, SMALL, LARGER, FULL)
#: The least by which a rung must truly be better than all cheaper ones, for an objective to be built on it.
LEAST_GAP = 0.10
LARGEST_RANK = 64
MOST_OF_A_KIND = 4
#: The highest target that the sealed test can prove.
HIGHEST_TARGET = 0.95
#: The least that the cheapest answer must reach for an objective to be built on it: below, it is of no use to anybody.
LEAST_OF_USE = 0.6

#: What a server allows that adapts nothing but the values, or the outputs, of attention.
_VALUES, _OUTPUTS = {"targets": ["v_proj"]}, {"targets": ["o_proj"]}
#: What a careful team asks for: a fifth of the planner's rate, with rsLoRA, whose scale falls with the root of the rank only. Rank 16 then
#: moves too little in so few steps; rank 64 moves twice as far.
_SLOW = {"rslora": True, "alpha": 8, "learning_rate": 3.0e-4}
_SLOWER = _SLOW | {"learning_rate": 2.2e-4}
#: Each bed takes about fifteen minutes of one core. The floor is good where words alone decide; a prompt is better where labels say
#: nothing; an adapter where the order of words decides (agreement within a sentence; which of five things is wanted); the larger one
#: where the smaller moves too little; all weights where the adapter may touch little.
BEDS = {
    bed.name: bed
    for bed in (
        Bed("agreement", "blimp", labels=2, train=60, truth=80, dev=80),
        Bed("agreement-values", "blimp", labels=2, train=60, truth=80, dev=80, lora=_VALUES, rows="agreement"),
        Bed("agreement-slow", "blimp", labels=2, train=60, truth=80, dev=80, lora=_SLOW, rows="agreement"),
        Bed("bitext-2-noise", "bitext", labels=2, train=30, truth=70, dev=70, noise=1.0),
        Bed("banking-8", "banking77", labels=8, train=8, truth=20, dev=18),
        Bed("wishes", "wishes", labels=12, train=24, truth=14, dev=14),
        Bed("wishes-outputs", "wishes", labels=12, train=24, truth=14, dev=14, lora=_OUTPUTS, rows="wishes"),
        Bed("unfair-5", "unfair_tos", labels=5, train=10, truth=24, dev=28),
        Bed("agreement-slower", "blimp", labels=2, train=60, truth=80, dev=80, lora=_SLOWER),
        Bed("banking-2-noise", "banking77", labels=2, train=15, truth=40, dev=40, noise=1.0),
        Bed("bitext-2-noise-3", "bitext", labels=2, train=30, truth=70, dev=70, noise=1.0),
        Bed("subjects", "blimp_subjects", labels=2, train=60, truth=80, dev=80),
        Bed("bitext-4-few", "bitext", labels=4, train=3, truth=40, dev=40),
    )
}


@dataclass(frozen=True)
class Spec:
    """An objective: a bed, the answer that is right on it, and the target that makes it so."""

    bed: str
    right: str
    target: float

    @property
    def name(self) -> str:
        """How results call it."""
        return f"{self.bed}: {self.right}"


def specs(truths: Mapping[str, Mapping[str, float]]) -> list[Spec]:
    """The objectives that can be built on beds of known truth: every answer on every bed where the rule finds a target, at most
    ``MOST_OF_A_KIND`` of one answer, first beds first."""
    found: list[Spec] = []
    for bed, truth in truths.items():
        for right in (*ANSWERS, NONE):
            target = target_for(right, truth)
            if target is not None and sum(one.right == right for one in found) < MOST_OF_A_KIND:
                found.append(Spec(bed, right, target))
    return found


def target_for(meant: str, truth: Mapping[str, float]) -> float | None:
    """The target that makes ``meant`` the right answer; None where it is not better than everything cheaper by ``LEAST_GAP``.

    ``truth`` is what each answer truly reaches. The target lies a third of the way up from what is cheaper, so that the meant rung has room
    to be proven; where nothing is cheaper, a tenth below; where none shall pass, a tenth above all.
    """
    if meant == NONE:
        target = round(max(truth.values()) + 0.10, 2)
        return target if target <= HIGHEST_TARGET else None
    if meant not in truth:
        return None
    cheaper = [truth[name] for name in ANSWERS[: ANSWERS.index(meant)] if name in truth]
    if not cheaper:
        return round(truth[meant] - 0.10, 2) if truth[meant] >= LEAST_OF_USE else None
    gap = truth[meant] - max(cheaper)
    return round(max(cheaper) + gap / 3, 2) if gap >= LEAST_GAP else None


def run(quick: bool) -> tuple[dict[str, float], dict[str, Any]]:
    """Values of the bars, and the detail beside them. Does what is missing first, bed by bed; ``BEDS=2`` does the first two of those of one
    label, ``BEDS=0`` none; ``KINDS`` says the same of those of other kinds (``known_answers.py``)."""
    truths: dict[str, dict[str, float]] = {}
    known = Known()
    beds = list(BEDS.values())[: int(os.environ.get("BEDS", "0" if quick else str(len(BEDS))))]
    for bed, following in zip(beds, [*beds[1:], None][: len(beds)], strict=True):
        for seed in SEEDS:
            _know(bed, seed, known)
        truths[bed.name] = _truth(bed.name)
        for spec in (spec for spec in specs(truths) if spec.bed == bed.name):
            for seed in SEEDS:
                _decide(spec, seed, known)
        if following is None or following.place != bed.place:
            shutil.rmtree(WORK / bed.place, ignore_errors=True)
            known = Known()
    rows = [_judged(spec) for spec in specs(truths)]
    if kinds := int(os.environ.get("KINDS", str(len(KINDS)))):
        rows += known_answers.decided(_lines, _append, quick, list(KINDS.values())[:kinds])
    told = {"objectives": rows, "of_each": dict(Counter(row["right"] for row in rows)), "truths": truths}
    return {"wrong_decisions": float(sum(row["wrong"] for row in rows)), "objectives_decided": float(len(rows))}, told


def _know(bed: Bed, seed: int, known: Known) -> None:
    """Every rung of the bed, made and measured on its truth; the larger adapter by asking for its rank."""
    if (bed.name, seed) in _lines("truth"):
        return
    wanted = Wanted("truth", 0.05, ("prompt", "nearest", "lora", "full"), seed)
    ladder = _adapted(bed, wanted, known)
    larger = _adapted(bed, replace(wanted, ladder=("lora",), rank=LARGEST_RANK), known)
    measured = [(_answer(climb), climb) for climb in (*ladder.climbs, *larger.climbs, *((ladder.floor,) if ladder.floor else ()))]
    rungs = [{"answer": answer, "rung": f"{c.rung.value} {c.variant}", "value": _value(c), "seconds": c.seconds} for answer, c in measured]
    _append({"kind": "truth", "of": bed.name, "seed": seed, "rungs": rungs})


def _truth(bed: str) -> dict[str, float]:
    """What each answer reaches, over the seeds; of several rungs behind one answer, the best."""
    values: dict[str, dict[str, list[float]]] = {}
    for seed in SEEDS:
        for rung in _lines("truth")[bed, seed]["rungs"]:
            values.setdefault(rung["answer"], {}).setdefault(rung["rung"], []).append(rung["value"])
    return {answer: max(fmean(found) for found in rungs.values()) for answer, rungs in values.items()}


def _decide(spec: Spec, seed: int, known: Known) -> None:
    if (spec.name, seed) in _lines("decision"):
        return
    ladder = _adapted(BEDS[spec.bed], Wanted("dev", spec.target, "auto", seed), known)
    chosen = next((climb for climb in ladder.climbs if climb.candidate == ladder.chosen), None)
    said = FLOOR if "classical reference passes" in ladder.reason else _answer(chosen) if chosen else NONE
    dev = {f"{climb.rung.value} {climb.variant}": [_value(climb), climb.gate.verdict.value] for climb in ladder.measured}
    refused = [refusal.reason for refusal in ladder.refused]
    _append({"kind": "decision", "of": spec.name, "seed": seed, "target": spec.target, "decided": said, "dev": dev, "refused": refused})


def _adapted(bed: Bed, wanted: Wanted, known: Known) -> Ladder:
    """What ``adapt`` measured and chose, in a workspace of its own."""
    print(f"{bed.name}, seed {wanted.seed}: {wanted.measured}, target {wanted.target}", file=sys.stderr, flush=True)
    folder = WORK / bed.place / bed.name / f"{wanted.measured}-{wanted.seed}-{wanted.target}-{wanted.rank}"
    return played(partial(write_objective, bed, wanted), folder, WORK / bed.place / "trained", known).ladder


def _answer(climb: Climb) -> str:
    """The answer that a rung stands for."""
    if climb.rung.value == "lora":
        return LARGER if climb.variant == f"r{LARGEST_RANK}" else SMALL
    return {"floor": FLOOR, "full": FULL}.get(climb.rung.value, PROMPT)


def _value(climb: Climb) -> float:
    return round(climb.evidence.metrics[METRIC].value, 4)


def _judged(spec: Spec) -> dict[str, Any]:
    """An objective with its right answer and what most seeds decided."""
    found = [_lines("decision")[spec.name, seed]["decided"] for seed in SEEDS]
    most, count = Counter(found).most_common(1)[0]
    decided = most if count > len(SEEDS) / 2 else "no two seeds alike"
    told = {"objective": spec.name, "target": spec.target, "right": spec.right, "seeds": found, "decided": decided}
    return told | {"wrong": decided != spec.right}


def _lines(kind: str) -> dict[tuple[str, int], dict[str, Any]]:
    lines = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()] if RESULTS.is_file() else []
    return {(line["of"], line["seed"]): line for line in lines if line["kind"] == kind}


def _append(line: dict[str, Any]) -> None:
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
