"""Number formats of the engine, as they were measured before for an objective."""

from __future__ import annotations

from datetime import timedelta

from tailorbird.domain.number_format import FormatMeasurement
from tailorbird.domain.plan import Plan
from tailorbird.usecases.steps.step_context import StepContext

#: What was measured longer ago is not shown: engines change.
_FRESH = timedelta(days=30)


def with_known_formats(context: StepContext, plan: Plan) -> Plan:
    """The plan with the latest measurement of each base model and machine for its objective."""
    now = context.deps.clock.now()
    with context.deps.ledger.work(context.run.tenant, write=False) as work:
        found = [work.records.get(FormatMeasurement, digest) for digest in work.records.digests(FormatMeasurement)]
    ours = sorted(
        (one for one in found if one.objective == context.objective.name and now - one.at < _FRESH), key=lambda one: (one.at, one.label)
    )
    return plan.model_copy(update={"formats": tuple({(one.base, one.machine): one for one in ours}.values())})
