"""How far the planner's scoring estimates are from what the engine takes, and how they order prompts that cost different amounts to ask.

In: base model, data sets. Out: seconds and estimate of each case, alone and batched; the mean and the worst factor between the two, and the
number of pairs of cases that the estimates put in the wrong order.
"""

from __future__ import annotations

import csv
import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean, pstdev
from typing import Any

from cases import DATA, DIGEST, base_folder
from estimates import Case, inputs_of, say

from tailorbird.domain.dataset import EVERYONE
from tailorbird.domain.deployment import Servable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.plan import TokenProfile
from tailorbird.domain.prompt import Demonstration, Entry, Message, PromptSpec, Sampling
from tailorbird.inference import open_engine
from tailorbird.planning import PlanInputs
from tailorbird.planning.estimates import scoring_seconds
from tailorbird.ports.engine import LocalEngine
from tailorbird.chat.prompts import messages_for_row
from tailorbird.usecases.runs.snapshot_and_plan import label_lengths

#: Rows asked one by one and in batches, and how often: each round with rows of its own, since the engine keeps what it has read.
ALONE, BATCHED, ROUNDS = 16, 96, 2
_BATCH = 32
#: Estimates nearer to one another than this have no order.
_APART = 1.25


@dataclass(frozen=True)
class Shape:
    """A prompt whose cost is estimated: ``shots`` demonstrations that all rows share, or ``looked_up`` ones of each row's own."""

    name: str
    data: str
    listed: bool = True
    shots: int = 0
    looked_up: int = 0
    labels: int = 77


SHAPES = (
    Shape("77 labels, listed", "banking"),
    Shape("77 labels, not listed", "banking", listed=False),
    Shape("8 labels, listed", "banking", labels=8),
    Shape("8 labels, not listed", "banking", listed=False, labels=8),
    Shape("8 labels, 8 demonstrations", "banking", shots=8, labels=8),
    Shape("8 labels, 4 looked up", "banking", looked_up=4, labels=8),
    Shape("8 labels, 16 looked up", "banking", looked_up=16, labels=8),
    Shape("long texts, 2 labels", "clauses", labels=2),
    Shape("answers of 40 tokens", "bitext"),
    Shape("answers of 40 tokens, 2 looked up", "bitext", looked_up=2),
)
_TOKENS = 40


def run(quick: bool) -> tuple[dict[str, float], dict[str, Any]]:
    """Values of the bars, and the detail beside them."""
    from tailorbird.training import open_trainer

    machine = open_trainer().measure_machine()
    engine = open_engine()
    rows = []
    for shape in SHAPES[::3] if quick else SHAPES:
        asked = _Asked.of(engine, shape)
        inputs = replace(inputs_of(Case("lora", data="banking"), machine, ()), tokens=asked.tokens)
        rows.append(_measured(engine, shape, asked, inputs))
        say(f"{shape.name}: alone {rows[-1]['alone_factor']:.2f}, batched {rows[-1]['batched_factor']:.2f} of what it takes")
    factors = [row[f"{how}_factor"] for row in rows for how in ("alone", "batched")]
    wrong = [
        (one["shape"], other["shape"])
        for one, other in combinations(rows, 2)
        if max(one["alone"], other["alone"]) > _APART * min(one["alone"], other["alone"])
        and (one["alone"] < other["alone"]) != (one["alone_estimate"] < other["alone_estimate"])
    ]
    values = {
        "scoring_worst_factor": max(max(factor, 1 / factor) for factor in factors),
        "scoring_mean_factor": math.exp(fmean(abs(math.log(factor)) for factor in factors)),
        "scoring_orders_wrong": float(len(wrong)),
    }
    return {name: round(value, 3) for name, value in values.items()}, {"runs": rows, "wrong": wrong, "machine": machine.model_dump()}


@dataclass(frozen=True)
class _Asked:
    servable: Servable
    prompts: list[tuple[Message, ...]]
    tokens: TokenProfile
    looked_up: float

    @classmethod
    def of(cls, engine: LocalEngine, shape: Shape) -> _Asked:
        data = _rows(shape)
        labels = tuple(sorted({target for _, target in data})) if shape.data != "bitext" else ()
        kind = TaskKind.CLASSIFY if labels else TaskKind.GENERATE
        spec = PromptSpec(
            instruction="Classify the message." if labels else "Answer the customer.", labels=labels, list_labels=shape.listed
        )
        folder = base_folder("smollm2")
        bare = PromptSpec(instruction=spec.instruction)
        counted = _profile(engine, bare, data, labels)
        shown = tuple(
            Demonstration(row_id=str(place), text=text, target=target) for place, (text, target) in enumerate(data[: shape.shots])
        )
        spec = spec.model_copy(update={"demonstrations": shown})
        draw = random.Random(3)
        entries = [_entries(draw.sample(data, shape.looked_up)) for _ in range(ROUNDS * (ALONE + BATCHED))]
        prompts = [messages_for_row(spec, text, context) for (text, _), context in zip(data[shape.shots :], entries, strict=False)]
        without = [messages_for_row(spec, text, []) for text, _ in data[shape.shots :][: len(prompts)]]
        more = fmean(engine.count_tokens(folder, prompts)) - fmean(engine.count_tokens(folder, without))
        servable = Servable(id=DIGEST, tenant="bench", task=kind, base=str(folder), adapter=None, weights=None, prompt=spec)
        return cls(servable, prompts, counted, more)


def _rows(shape: Shape) -> list[tuple[str, str]]:
    path, text, target = {
        "banking": (DATA / "banking77" / "train.csv", "text", "category"),
        "bitext": (DATA / "bitext_support" / "bitext_responses_4514.csv", "instruction", "response"),
        "clauses": (DATA / "banking77" / "train.csv", "text", "category"),
    }[shape.data]
    with path.open(encoding="utf-8", newline="") as file:
        rows = [(row[text], row[target]) for row in csv.DictReader(file)]
    random.Random(7).shuffle(rows)
    if shape.data == "bitext":
        return rows
    kept = set(sorted({label for _, label in rows})[: shape.labels])
    rows = [row for row in rows if row[1] in kept]
    if shape.data == "clauses":
        return [(" ".join(other for other, _ in rows[place : place + 20]), label) for place, (_, label) in enumerate(rows[:-20])]
    return rows


def _entries(rows: Sequence[tuple[str, str]]) -> list[Entry]:
    return [Entry(id=str(place), text=text, target=target, access=(EVERYONE,)) for place, (text, target) in enumerate(rows)]


def _profile(engine: LocalEngine, prompt: PromptSpec, data: Sequence[tuple[str, str]], labels: Sequence[str]) -> TokenProfile:
    """As the product counts tokens before it plans."""

    def count(texts: Sequence[str]) -> list[int]:
        return engine.count_tokens(base_folder("smollm2"), [messages_for_row(prompt, text) for text in texts])

    empty = count([""])[0]
    prompts, targets = count([text for text, _ in data[:400]]), [one - empty + 1 for one in count([target for _, target in data[:400]])]
    listed, trie = label_lengths(labels, lambda texts: [one - empty + 1 for one in count(texts)])
    return TokenProfile(
        shared_prefix=max(0, empty - 5),
        prompt_mean=fmean(prompts),
        prompt_p95=sorted(prompts)[int(0.95 * (len(prompts) - 1))],
        prompt_max=max(prompts),
        target_mean=fmean(targets) if labels else _TOKENS,
        target_max=max(targets) if labels else _TOKENS,
        label_trie=trie,
        label_list=listed,
        row_sd=pstdev(prompts),
    )


def _measured(engine: LocalEngine, shape: Shape, asked: _Asked, inputs: PlanInputs) -> dict[str, Any]:
    engine.load(asked.servable)
    try:
        _ask(engine, asked, asked.prompts[-2:])
        alone, batched = [], []
        for number in range(ROUNDS):
            mine = asked.prompts[number * (ALONE + BATCHED) :][: ALONE + BATCHED]
            alone.append(_seconds(engine, asked, [[prompt] for prompt in mine[:ALONE]]))
            batched.append(_seconds(engine, asked, [mine[place : place + _BATCH] for place in range(ALONE, len(mine), _BATCH)]))
    finally:
        engine.unload(asked.servable.id)
    row: dict[str, Any] = {"shape": shape.name, "tokens": asked.tokens.model_dump(), "looked_up": round(asked.looked_up, 1)}
    many = 100_000
    per_batched = scoring_seconds(inputs, shape.shots, many, looked_up=asked.looked_up)[1] / many
    per_alone = scoring_seconds(inputs, shape.shots, many, alone=True, looked_up=asked.looked_up)[1] / many
    row |= {"alone": min(alone) / ALONE, "batched": min(batched) / BATCHED}
    row |= {"alone_estimate": per_alone, "batched_estimate": per_batched}
    row |= {f"{how}_factor": round(row[f"{how}_estimate"] / row[how], 3) for how in ("alone", "batched")}
    return row


def _seconds(engine: LocalEngine, asked: _Asked, batches: Sequence[Sequence[tuple[Message, ...]]]) -> float:
    started = time.perf_counter()
    for batch in batches:
        _ask(engine, asked, batch)
    return time.perf_counter() - started


def _ask(engine: LocalEngine, asked: _Asked, prompts: Sequence[tuple[Message, ...]]) -> None:
    prompt = asked.servable.prompt
    if prompt.answers:
        engine.score(asked.servable.id, prompts, prompt.answers)
    else:
        engine.generate(asked.servable.id, prompts, Sampling(max_tokens=_TOKENS))
