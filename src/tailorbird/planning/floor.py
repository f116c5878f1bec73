"""What the classical reference reads: words, or vectors beside them.

In: ``PlanInputs``. Out: the encoder it asks, or none, with the reason. Must not know: how vectors are made, rungs.
"""

from __future__ import annotations

from typing import Literal

from tailorbird.domain.plan import PlannedFloor, Reason
from tailorbird.foundations.licences import clash
from tailorbird.planning.inputs import PlanInputs

#: Training rows up to which vectors are read unasked: some minutes on a core.
MOST_ROWS = 20_000


def planned_floor(inputs: PlanInputs) -> PlannedFloor:
    """Vectors where the objective asks for them; where it leaves it open, where an encoder is installed, may be used, and rows are few."""
    role: Literal["rung", "reference"] = "rung" if inputs.objective.releases_floor else "reference"
    encoder, why_not = inputs.encoder, _why_words(inputs)
    if encoder is None or why_not:
        text, source = why_not or "words alone: no encoder is installed (tailorbird models pull minilm-l6-v2)", "docs/decisions/0047"
        return PlannedFloor(role=role, reason=Reason(rule="vectors", text=text, source=source))
    rows = inputs.manifest.counts.train
    text = f"words, and vectors of {rows:,} training texts by {encoder.name}: other words may mean the same"
    reason = Reason(rule="vectors", text=text, source="docs/decisions/0047")
    return PlannedFloor(role=role, encoder=encoder.digest, name=encoder.name, license=encoder.license, reason=reason)


def _why_words(inputs: PlanInputs) -> str:
    """Why words alone are read although there may be an encoder; empty where nothing stands in the way."""
    objective, rows = inputs.objective, inputs.manifest.counts.train
    if objective.floor.vectors is False:
        return "words alone, as the objective asks"
    if inputs.encoder and (why := clash(inputs.encoder.license, objective.business.use)):
        return f"words alone: the licence {inputs.encoder.license} of {inputs.encoder.name} clashes with `business.use`: {why}"
    if objective.floor.vectors == "auto" and rows > MOST_ROWS:
        return f"words alone: {rows:,} training rows are more than {MOST_ROWS:,}, unless `floor: {{vectors: true}}` asks for it"
    return ""
