"""Money of a look at the sealed test: what endpoints will be paid for it, as far as dev tells, before the look is counted."""

from __future__ import annotations

from collections.abc import Sequence

from tailorbird.domain.dataset import Split
from tailorbird.domain.errors import Exhausted
from tailorbird.domain.evidence import Evidence, Verdict
from tailorbird.domain.ladder import Climb
from tailorbird.domain.plan import amount
from tailorbird.domain.value import Digest
from tailorbird.usecases.climb.incumbent import incumbent_of
from tailorbird.usecases.steps import transitions
from tailorbird.usecases.steps.step_context import StepContext


def look_money(context: StepContext, climb: Climb) -> float:
    """What endpoints will be paid for a look at a candidate, and for the incumbent on the same items: as a request was paid for on dev, or
    in the incumbent's own test. As many further requests are timed as on dev."""
    release = incumbent_of(context)
    asked = release is not None and release.content.hosted is not None and release.content.candidate != climb.candidate
    theirs = context.record(Evidence, release.dossier.test_evidence) if release is not None and asked else None
    items = len(context.rows(Split.TEST))
    asked_on_dev = climb.evidence.hosted.requests if climb.evidence.hosted is not None else 0
    further = max(0, asked_on_dev - climb.evidence.n - len(context.shifted_rows(Split.DEV)))
    ours = (items + len(context.shifted_rows(Split.TEST)) + further) * _of_request(climb.evidence)
    return ours + items * _of_request(theirs)


def demand_look_money(context: StepContext, climb: Climb) -> None:
    """Raises Exhausted (``budget_spent``) where a look would cost more than is left: it would end without a verdict."""
    money, left, currency = look_money(context, climb), _left(context), context.objective.budget.currency
    if money > left:
        raise Exhausted(
            f"the sealed test would cost about {amount(money)} {currency} at endpoints, and {amount(left)} is left of the budget",
            "a larger budget in the objective is a new run",
            code="budget_spent",
        )


def unpayable(context: StepContext, climbs: Sequence[Climb]) -> dict[Digest, str]:
    """Candidates that pass on dev and whose look cannot be paid for: the reason, by candidate."""
    left, currency, found = _left(context), context.objective.budget.currency, dict[Digest, str]()
    for climb in climbs:
        if climb.gate.verdict is Verdict.PASS and (money := look_money(context, climb)) > left:
            told = f"a look at it would cost about {amount(money)} {currency} at endpoints, and {amount(left)} is left"
            found[climb.candidate] = f"{transitions.named(climb)} passes on dev, and {told}"
    return found


def _left(context: StepContext) -> float:
    return max(0.0, context.objective.budget.money - context.spent.money)


def _of_request(evidence: Evidence | None) -> float:
    hosted = evidence.hosted if evidence is not None else None
    return hosted.money / hosted.requests if hosted is not None and hosted.requests else 0.0
