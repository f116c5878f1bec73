"""Seconds that an encoder takes to read texts: those of an index, and the queries that are looked up in it."""

from __future__ import annotations

from tailorbird.domain.plan import Estimate, RungPlan
from tailorbird.planning.flops import backbone_parameters
from tailorbird.planning.inputs import PlanInputs
from tailorbird.planning.setting_rules import PASSAGE_TOKENS
from tailorbird.planning.time_and_cost import energy_estimate, interval, money_estimate, rates, total

#: Tokens of a question that are read, where none were counted.
QUERY_TOKENS = 24
#: Share of the measured rate of products that an encoder reaches: at best, usually, at worst; with many texts (to learn from them, too),
#: and with one.
READING, READING_ALONE = (0.9, 0.5, 0.12), (0.4, 0.2, 0.05)


def encoder_rates(inputs: PlanInputs, shares: tuple[float, float, float] = READING) -> list[float]:
    """FLOP/s of an encoder on this machine, at best, usually, at worst. Encoders run on the processor, also where there is a GPU, whose
    rate is the one that was measured."""
    return rates(inputs, 0.0 if inputs.machine.gpus else inputs.machine.fp32_gflops, shares)


def reading_seconds(inputs: PlanInputs, parameters: int, tokens: float, shares: tuple[float, float, float] = READING) -> Estimate:
    """Seconds of a forward pass over ``tokens`` by an encoder of so many ``parameters``."""
    return interval([2.0 * parameters * tokens / rate for rate in encoder_rates(inputs, shares)], "s")


def lookup_seconds(inputs: PlanInputs, queries: int) -> Estimate:
    """Seconds to find the passages of ``queries`` by the release that the objective names; 0 without one. Each way by vectors reads a query
    once; a cross-encoder reads it once more with each passage that it orders anew."""
    ranker = inputs.ranker
    if ranker is None:
        return interval([0.0] * 3, "s")
    read = QUERY_TOKENS * sum(part is not None for part in (ranker.encoder, ranker.tuned))
    read += ranker.depth * (PASSAGE_TOKENS + QUERY_TOKENS) if ranker.reranker else 0
    return reading_seconds(inputs, ranker.parameters, queries * read)


def with_index(inputs: PlanInputs, planned: RungPlan, parameters: int, tokens: float) -> RungPlan:
    """``planned`` with what an encoder of so many ``parameters`` takes to read the ``tokens`` of its index."""
    read = reading_seconds(inputs, parameters, tokens)
    return with_seconds(inputs, planned, read).model_copy(update={"index_time": read}) if read.likely else planned


def with_seconds(inputs: PlanInputs, planned: RungPlan, more: Estimate) -> RungPlan:
    """``planned``, which takes so much ``more`` to make."""
    time, money = total(planned.time, more), total(planned.money, money_estimate(inputs, more))
    return planned.model_copy(update={"time": time, "money": money, "energy": energy_estimate(inputs, time)})


def by_ranker(inputs: PlanInputs, planned: RungPlan, queries: int) -> RungPlan:
    """``planned`` with the encoder that finds its passages: the one that is installed, or that of the release which the objective names,
    with what it takes to read them, and to find those of ``queries`` and of 1,000 requests."""
    ranker = inputs.ranker
    tokens = inputs.documents * inputs.document_tokens
    if ranker is None:
        parameters = backbone_parameters(inputs.encoder) if inputs.encoder else 0
        return with_index(inputs, planned, parameters, tokens).model_copy(update={"encoder": inputs.encoder_tree})
    planned = with_index(inputs, planned, ranker.parameters if ranker.encoder else 0, tokens)
    planned = with_seconds(inputs, planned, lookup_seconds(inputs, queries))
    asked, update = money_estimate(inputs, lookup_seconds(inputs, 1000)), {"encoder": ranker.encoder}
    serving = total(planned.serving_cost, asked) if planned.serving_cost else asked
    return planned.model_copy(update=update | {"ranker": ranker, "serving_cost": serving})
