"""Plans that ask an endpoint: time and money of the hosted rung and of a search's proposer, and what an endpoint cannot do."""

from __future__ import annotations

from dataclasses import dataclass

from tailorbird.domain.endpoint import Endpoint
from tailorbird.domain.evidence import MOST_FURTHER_REQUESTS
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.objective import Objective, TaskKind
from tailorbird.domain.plan import Estimate, Reason, RungPlan
from tailorbird.domain.prompt import PROPOSALS, PROPOSER_ROWS
from tailorbird.domain.rung_wishes import HostedVariant
from tailorbird.planning import setting_rules
from tailorbird.planning.inputs import PlanInputs
from tailorbird.planning.lookup_cost import by_ranker
from tailorbird.planning.memory import PROCESS_GIB
from tailorbird.planning.time_and_cost import (
    FEW_SHOT_DRAWS,
    FEW_SHOT_ROWS,
    TIMED_ROWS,
    around,
    energy_estimate,
    interval,
    money_estimate,
    total,
)

#: Seconds of one answer over the internet: at best, usually, at worst. Assumed, not measured.
ANSWER_SECONDS = (0.2, 1.0, 5.0)
#: Requests under way at once, beside those that are timed one by one.
_AT_ONCE = 4
#: Its tokenizer is not ours: its count lies within these factors of it.
_TOKENS = (0.7, 1.5)
#: GiB of the process that asks.
_MEMORY = 0.3


@dataclass(frozen=True)
class _HostedPrompt:
    """How the hosted model is asked: what stands before every text, ``shots`` of it, ``tokens`` in all; requests that choose it."""

    variant: HostedVariant
    what: str
    shots: int = 0
    tokens: float = 0.0
    tried: int = 0


def hosted_zero_shot(inputs: PlanInputs) -> RungPlan:
    """The instruction alone, answered by the hosted model."""
    return _asking(inputs, _HostedPrompt("zero-shot", "the instruction alone"))


def hosted_few_shot(inputs: PlanInputs) -> RungPlan:
    """The instruction with training rows as demonstrations."""
    shots, _ = setting_rules.shots(inputs)
    tried, tokens = FEW_SHOT_DRAWS * FEW_SHOT_ROWS if shots else 0, shots * setting_rules.demonstration_tokens(inputs)
    return _asking(inputs, _HostedPrompt("few-shot", f"the instruction with {shots} training rows as demonstrations", shots, tokens, tried))


def hosted_searched(inputs: PlanInputs) -> RungPlan:
    """Instruction and demonstrations searched on rows held out of train, with the hosted model as the one that answers."""
    calls, shots, reason = setting_rules.prompt_search(inputs)
    tokens = shots * setting_rules.demonstration_tokens(inputs)
    planned = _asking(inputs, _HostedPrompt("searched", f"a prompt searched with {calls:,} calls of it", shots, tokens, calls))
    update: dict[str, object] = {"calls": calls, "proposer": planned.endpoint, "reasons": (*planned.reasons, reason)}
    if inputs.endpoint is not None and inputs.objective.prompt_search.proposer is None:
        update["money"] = total(planned.money, _written_price(inputs, inputs.endpoint))
    return with_proposer(inputs, planned.model_copy(update=update))


def hosted_grounded(inputs: PlanInputs) -> RungPlan:
    """For each text the passages of the tenant's documents most like it, which the hosted model is shown."""
    count, reason = setting_rules.passages(inputs)
    planned = _asking(
        inputs, _HostedPrompt("grounded", f"the instruction with {count} passages", count, count * setting_rules.PASSAGE_TOKENS)
    )
    update = {"grounded": True, "reasons": (*planned.reasons, reason)}
    return by_ranker(inputs, planned.model_copy(update=update), inputs.dev_rows)


def is_wanted(objective: Objective, variant: HostedVariant) -> bool:
    """True where the objective asks for the variant of the hosted model; by default those of which the ladder tries the like with the
    base model, and zero-shot and few-shot in any case."""
    wished = objective.hosted.variants if objective.hosted else "auto"
    if wished != "auto":
        return variant in wished
    if variant == "grounded":
        return bool(objective.documents) if objective.ladder == "auto" else RungKind.GROUNDING in objective.ladder
    return variant != "searched" or (objective.ladder != "auto" and RungKind.PROMPT_SEARCH in objective.ladder)


def why_not_hosted(inputs: PlanInputs) -> str | None:
    """Reason why the endpoint of the objective cannot be a rung of it; None where it can."""
    objective, endpoint = inputs.objective, inputs.endpoint
    if endpoint is None:
        return "the objective names no endpoint (hosted:)"
    if (other := _other_currency(inputs, endpoint)) is not None:
        return other
    if objective.task.thinking:
        return "a hosted model is not asked to reason first (task.thinking)"
    needs = sorted({kpi.metric for kpi in objective.kpis} & {"log_loss", "brier", "ece"})
    if needs:
        return f"a hosted model gives no probabilities, which {' and '.join(needs)} rest on"
    if objective.task.kind is TaskKind.CLASSIFY and objective.referral is not None:
        return "a hosted model gives no probabilities, by which answers are referred to people"
    if objective.task.out_of_scope is not None:
        return "a hosted model gives no scores, by which requests out of scope are refused"
    return None


#: Tokens that a proposer reads and writes each time: rows with their answers, an instruction.
_PROPOSAL_READ, _PROPOSAL_WRITTEN = 700, 80


def _written_price(inputs: PlanInputs, endpoint: Endpoint) -> Estimate:
    """What the instructions cost that an endpoint writes for a search."""
    price = endpoint.cost(PROPOSALS * _PROPOSAL_READ, PROPOSALS * _PROPOSAL_WRITTEN)
    return around(price, _TOKENS, inputs.prices.currency)


def with_proposer(inputs: PlanInputs, planned: RungPlan) -> RungPlan:
    """``planned``, a prompt's search, with the endpoint that writes instructions for it: what that takes, costs, and is shown."""
    endpoint, wishes = inputs.proposer, inputs.objective.prompt_search.proposer
    if endpoint is None or wishes is None:
        return planned
    waited = interval([PROPOSALS * seconds for seconds in ANSWER_SECONDS], "s")
    paid = _written_price(inputs, endpoint)
    text = (
        f"{wishes.model} at {endpoint.name} writes instructions: up to {PROPOSER_ROWS} rows of train, and answers that were wrong, leave "
        f"the house, to {endpoint.region}"
    )
    update = {"time": total(planned.time, waited), "money": total(planned.money, paid), "proposer": endpoint}
    return planned.model_copy(update=update | {"reasons": (*planned.reasons, Reason(rule="proposer", text=text, source="docs/rungs.md"))})


def why_not_proposed(inputs: PlanInputs) -> str | None:
    """Reason why the endpoint that the objective names cannot write instructions for a search; None where it can, or none is named."""
    if inputs.objective.prompt_search.proposer is None:
        return None
    if inputs.proposer is None:
        return "the endpoint of its proposer is not known here"
    return _other_currency(inputs, inputs.proposer)


def _other_currency(inputs: PlanInputs, endpoint: Endpoint) -> str | None:
    paid, here, budget = endpoint.currency, inputs.prices.currency, inputs.objective.budget.currency
    if paid != here:
        return f"{endpoint.name} is paid in {paid} and this machine in {here}: the two cannot be compared"
    if paid != budget:
        return f"{endpoint.name} is paid in {paid} and the budget is in {budget}: it could not be kept"
    return None


def _asking(inputs: PlanInputs, asked: _HostedPrompt) -> RungPlan:
    endpoint, wishes = inputs.endpoint, inputs.objective.hosted
    model = wishes.model if wishes else "a model"
    requests = inputs.dev_rows + asked.tried + 1
    alone = min(inputs.dev_rows, TIMED_ROWS)
    further, at_once = _further(inputs)
    seconds = [alone + (requests - alone) / _AT_ONCE + more / at_once for more in further]
    time = interval([each * amount for each, amount in zip(ANSWER_SECONDS, seconds, strict=True)], "s")
    paid = [_paid(inputs, endpoint, asked.tokens, requests + more) for more in further]
    money = interval((paid[0].low, paid[1].likely, paid[2].high), paid[0].unit)
    name, region = (endpoint.name, endpoint.region) if endpoint else ("an endpoint", "nobody knows where")
    train, passages = " and train" if asked.tried or further[-1] else "", " and passages" if asked.variant == "grounded" else ""
    text = f"{model} at {name}, {asked.what}: rows of dev{train}{passages} leave the house, to {region}"
    return RungPlan(
        rung=RungKind.HOSTED,
        variant=asked.variant,
        training=None,
        shots=asked.shots,
        time=time,
        memory=around(PROCESS_GIB + _MEMORY, (0.7, 1.5), "GiB"),
        money=total(money_estimate(inputs, time), money),
        energy=energy_estimate(inputs, time),
        serving_cost=_paid(inputs, endpoint, asked.tokens, 1000),
        endpoint=endpoint,
        reasons=(Reason(rule="hosted", text=text, source="docs/rungs.md"),),
    )


def _further(inputs: PlanInputs) -> tuple[tuple[int, int, int], int]:
    """Requests beyond the items until limits on what answering takes are settled, of texts of train: at best, usually (one more look), at
    worst; and how many of them are under way at once."""
    latency, cost = inputs.objective.limits.latency_p95_ms, inputs.objective.limits.cost_per_1k_requests
    most = min(inputs.train_rows, MOST_FURTHER_REQUESTS) if latency or cost else 0
    return (0, min(most, TIMED_ROWS), most), latency.at_concurrency if latency else 1


def _paid(inputs: PlanInputs, endpoint: Endpoint | None, shown: float, requests: float) -> Estimate:
    """What so many requests cost at the prices of the endpoint, with ``shown`` tokens before each text."""
    tokens = inputs.tokens
    listed = tokens.listed if inputs.objective.task.kind is TaskKind.CLASSIFY else 0
    read = tokens.prompt_mean + listed + shown
    cost = endpoint.cost(requests * read, requests * tokens.target_mean) if endpoint else 0.0
    return around(cost, _TOKENS, inputs.prices.currency)
