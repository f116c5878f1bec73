"""Seconds that an encoder takes to find passages by a released ranking."""

from __future__ import annotations

from tailorbird.domain.plan import Estimate, RungPlan
from tailorbird.planning.inputs import PlanInputs
from tailorbird.planning.setting_rules import PASSAGE_TOKENS
from tailorbird.planning.time_and_cost import energy_estimate, money_estimate
from tailorbird.planning.traffic_cost import around, total

#: Tokens of a question that are read, and the share of the matmul rate that encoders reach in fp32 on short texts.
QUERY_TOKENS, _RATE = 24, 0.3
#: The ends of an estimate of what an encoder reads.
SPREAD = (0.5, 2.5)


def encoder_rate(inputs: PlanInputs) -> float:
    """FLOP/s of an encoder on this machine."""
    return 1e9 * _RATE * (inputs.machine.fp32_gflops or 10.0 * inputs.machine.cores)


def lookup_seconds(inputs: PlanInputs, queries: int) -> Estimate:
    """Seconds to find the passages of ``queries`` by the release that the objective names; 0 without one. Each way by vectors reads a query
    once; a cross-encoder reads it once more with each passage that it orders anew."""
    ranker = inputs.ranker
    if ranker is None:
        return around(0.0, SPREAD, "s")
    read = QUERY_TOKENS * sum(part is not None for part in (ranker.encoder, ranker.tuned))
    read += ranker.depth * (PASSAGE_TOKENS + QUERY_TOKENS) if ranker.reranker else 0
    return around(queries * 2.0 * read * ranker.parameters / encoder_rate(inputs), SPREAD, "s")


def by_ranker(inputs: PlanInputs, planned: RungPlan, queries: int) -> RungPlan:
    """``planned`` with the encoder that finds its passages: the one that is installed, or that of the release which the objective names,
    with what it takes to find those of ``queries`` and of 1,000 requests."""
    ranker = inputs.ranker
    if ranker is None:
        return planned.model_copy(update={"encoder": inputs.encoder_tree})
    looked_up, asked = lookup_seconds(inputs, queries), money_estimate(inputs, lookup_seconds(inputs, 1000))
    time, money = total(planned.time, looked_up), total(planned.money, money_estimate(inputs, looked_up))
    update = {"time": time, "money": money, "energy": energy_estimate(inputs, time), "encoder": ranker.encoder}
    serving = total(planned.serving_cost, asked) if planned.serving_cost else asked
    return planned.model_copy(update=update | {"ranker": ranker, "serving_cost": serving})
