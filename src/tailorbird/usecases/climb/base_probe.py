"""Base-model probe: each base model's zero-shot results on a few dev rows, before anything is trained.

Dev rows alone are read. The sealed test stays sealed, and a probe is no look of its own: it may take a base off the ladder, and chooses no
candidate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from statistics import fmean

from tailorbird import evaluation, rungs
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.dataset import Row, Split
from tailorbird.domain.evidence import Comparison, ItemResult, Standing
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.plan import BaseProbe, ProvenBetter, RungPlan
from tailorbird.domain.prompt import Sampling
from tailorbird.objective import margin_for
from tailorbird.usecases.climb.metric_spec import as_lines, comparison_of, spec_of
from tailorbird.usecases.climb.rung_context import context_of
from tailorbird.usecases.steps.step_context import StepContext

#: Dev rows that a base is asked, at most, and the fewest that are worth asking.
PROBED_ROWS, FEWEST_ROWS = 100, 30
#: Share of the budget's hours that all probes of a plan may take.
_SHARE = 0.05


def probed_rows(context: StepContext) -> tuple[Row, ...]:
    """Up to ``PROBED_ROWS`` dev rows, drawn by the hash of seed and row: the same for every base, in any order of rows."""
    seed = context.objective.seed
    return tuple(sorted(context.rows(Split.DEV), key=lambda row: hashlib.sha256(f"{seed}:{row.id}".encode()).digest())[:PROBED_ROWS])


def why_not_probed(context: StepContext, zero_shots: Sequence[RungPlan]) -> str:
    """Reason why no base is probed; empty where all can be."""
    if context.objective.task.kind is TaskKind.RANK:
        return "encoders are not probed: without documents in an index they answer nothing"
    rows, dev = (
        probed_rows(context),
        len(context.rows(Split.DEV)) + len(context.shifted_rows(Split.DEV)) + len(context.outside_rows(Split.DEV)),
    )
    if len(rows) < FEWEST_ROWS:
        return f"{len(rows)} dev rows are too few to tell bases apart (at least {FEWEST_ROWS})"
    hours = sum(rung.time.likely for rung in zero_shots) / 3600 * len(rows) / dev
    if hours > _SHARE * context.objective.budget.hours:
        return f"probing takes about {hours:.2f} h, more than {_SHARE:.0%} of the budget's {context.objective.budget.hours:g} h"
    return ""


def probe_bases(context: StepContext, bases: Mapping[str, tuple[BaseModelRef, RungPlan]]) -> dict[str, BaseProbe]:
    """Asks every base, by its label, the same rows with its zero-shot prompt; then compares each two on them.

    The confidence of the risk tier holds for all comparisons together (Bonferroni). Raises what the engine raises.
    """
    rows = probed_rows(context)
    answers = {label: _told(context, label, base, rung, rows) for label, (base, rung) in bases.items()}
    metric = _metric_of(context, tuple(answers.values()))
    found = {label: _probe(context, items, metric) for label, items in answers.items()}
    pairs = max(1, len(found) * (len(found) - 1) // 2)
    return {label: probe.model_copy(update={"worse_than": _worse_than(context, label, found, pairs)}) for label, probe in found.items()}


def _told(context: StepContext, label: str, base: BaseModelRef, rung: RungPlan, rows: tuple[Row, ...]) -> tuple[ItemResult, ...]:
    context.progress.tell(f"probing {label} on {len(rows)} dev rows, zero-shot")
    return _answers(context, base, rung, rows)


def _probe(context: StepContext, items: tuple[ItemResult, ...], metric: str) -> BaseProbe:
    return BaseProbe(
        rows=len(items),
        score=evaluation.metrics_of(items, spec_of(context, 1))[metric],
        seconds_per_row=fmean(item.latency_ms for item in items) / 1000,
        tokens_per_row=fmean(item.prompt_tokens + item.completion_tokens for item in items),
        items=context.deps.artifacts.put(as_lines(items)),
    )


def _answers(context: StepContext, base: BaseModelRef, rung: RungPlan, rows: tuple[Row, ...]) -> tuple[ItemResult, ...]:
    """What the candidate of the base's zero-shot rung answers; it is made as the climb makes it."""
    candidate = rungs.make_candidate(context_of(context, rung, base)).candidate
    engine, servable = context.deps.engine(), context.servable(candidate)
    engine.load(servable)
    try:
        predictions = evaluation.engine_predictions(
            evaluation.PredictionRequest(
                engine=engine, servable=servable, rows=rows, progress=context.progress.count, sampling=Sampling(max_tokens=256), timed=0
            )
        )
    finally:
        engine.unload(servable.id)
    return evaluation.item_results(rows, predictions, spec_of(context, 1))


def _metric_of(context: StepContext, answers: Sequence[tuple[ItemResult, ...]]) -> str:
    """The metric in which the objective compares; where so few rows leave it undefined for some base (a rare label, a share of referred
    answers without a threshold), whether answers are right."""
    metric = comparison_of(context).metric
    if all(metric in evaluation.metrics_of(items, spec_of(context, 1)) for items in answers):
        return metric
    return "accuracy" if context.objective.task.kind is TaskKind.CLASSIFY and not context.many else "exact_match"


def _worse_than(context: StepContext, label: str, found: Mapping[str, BaseProbe], pairs: int) -> tuple[ProvenBetter, ...]:
    mine = found[label]
    compared = [(other, _compared(context, found[other], mine, pairs)) for other in found if other != label]
    return tuple(
        ProvenBetter(label=other, difference=one.difference, low=one.low, high=one.high, confidence=one.confidence)
        for other, one in compared
        if one.standing is Standing.BETTER
    )


def _compared(context: StepContext, upper: BaseProbe, lower: BaseProbe, pairs: int) -> Comparison:
    metric, objective = upper.score.name, context.objective
    rule = evaluation.ComparisonRule(
        metric=metric,
        margin=margin_for(context.file, metric),
        confidence=1 - (1 - objective.business.risk.confidence) / pairs,
        seed=objective.seed,
        many=context.many,
    )
    return evaluation.compare(upper.items, lower.items, context.items(upper.items), context.items(lower.items), rule)
