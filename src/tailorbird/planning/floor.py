"""The floor's plan: its role, whether it reads words alone or vectors beside them, and what that takes."""

from __future__ import annotations

from tailorbird.domain.objective import Objective
from tailorbird.domain.plan import Estimate, PlannedFloor, Reason
from tailorbird.planning.estimates import energy_estimate, floor_memory, floor_request, floor_time, money_estimate, vectors_time
from tailorbird.planning.estimates.interval import total as summed
from tailorbird.planning.feasibility import limit_of
from tailorbird.planning.inputs import PlanInputs
from tailorbird.planning.totals import in_all
from tailorbird.text.data_licences import clash

#: Training rows up to which vectors are read unasked: some minutes on a core.
MOST_ROWS = 20_000


def planned_floor(inputs: PlanInputs) -> PlannedFloor:
    """Vectors where the objective asks for them; where it leaves it open, where there is an encoder that may be used, rows are few, and the
    budget and the memory bear them. What not even words fit into is refused."""
    words, why_not = _estimated(inputs, _words(inputs), with_vectors=False), _why_words(inputs)
    if inputs.encoder is not None and not why_not:
        rows = inputs.manifest.counts.train
        text = f"words, and vectors of {rows:,} training texts by {inputs.encoder.name}: other words may mean the same"
        encoder = {"encoder": inputs.encoder.digest, "name": inputs.encoder.name, "license": inputs.encoder.license}
        reading = _words(inputs).model_copy(update={**encoder, "reason": _reason(text)})
        read = _estimated(inputs, reading, with_vectors=True)
        if not read.refused or inputs.objective.floor.vectors is True:
            return read
        why_not = f"words alone: with vectors it {read.refused}"
    none = f"words alone: {inputs.without_encoder or 'no encoder is installed (tailorbird models pull minilm-l6-v2)'}"
    return words.model_copy(update={"reason": _reason(why_not or none)})


def why_words(objective: Objective, rows: int) -> str:
    """Why words alone are read of so many training rows, whatever the encoder; empty where an encoder is of use."""
    if objective.floor.vectors is False:
        return "words alone, as the objective asks"
    if objective.floor.vectors == "auto" and rows > MOST_ROWS:
        return f"words alone: {rows:,} training rows are more than {MOST_ROWS:,}, unless `floor: {{vectors: true}}` asks for it"
    return ""


def why_not_encoder(objective: Objective, name: str, license_: str) -> str:
    """Why an encoder may not be used; empty where it may."""
    why = clash(license_, objective.business.use)
    return f"the licence {license_} of {name} clashes with `business.use`: {why}" if why else ""


def _why_words(inputs: PlanInputs) -> str:
    """Why words alone are read although there may be an encoder; empty where nothing stands in the way."""
    if why := why_words(inputs.objective, inputs.manifest.counts.train):
        return why
    why = why_not_encoder(inputs.objective, inputs.encoder.name, inputs.encoder.license) if inputs.encoder else ""
    return f"words alone: {why}" if why else ""


def _words(inputs: PlanInputs) -> PlannedFloor:
    return PlannedFloor(role="rung" if inputs.objective.releases_floor else "reference", reason=_reason("words alone"))


def _reason(text: str) -> Reason:
    return Reason(rule="vectors", text=text, source="docs/decisions/0049")


def _estimated(inputs: PlanInputs, floor: PlannedFloor, *, with_vectors: bool) -> PlannedFloor:
    """The floor with what it takes, and why it is not made where that is more than the objective allows."""
    vectors = vectors_time(inputs) if with_vectors else None
    words = floor_time(inputs, with_vectors=with_vectors)
    time = summed(words, vectors) if vectors else words
    money, asked = money_estimate(inputs, time), money_estimate(inputs, floor_request(inputs, with_vectors=with_vectors))
    estimates: dict[str, Estimate | None] = {
        "time": time,
        "vectors_time": vectors,
        "memory": floor_memory(inputs, with_vectors=with_vectors),
        "money": money,
        "energy": energy_estimate(inputs, time),
        "serving_cost": asked,
        "total": in_all(money, asked, inputs.objective.expected_traffic),
    }
    planned = floor.model_copy(update=estimates)
    return planned.model_copy(update={"refused": _refused(inputs, planned)})


def _refused(inputs: PlanInputs, floor: PlannedFloor) -> str:
    """Which of the budget's bounds it exceeds; the likely estimate decides, as for rungs."""
    budget, limit = inputs.objective.budget, limit_of(inputs.objective.budget, inputs.machine)
    assert floor.time is not None
    assert floor.money is not None
    assert floor.memory is not None
    if floor.time.likely / 3600 > budget.hours:
        return f"needs about {floor.time.likely / 3600:.2g} h and the budget is {budget.hours:g} h"
    if floor.money.likely > budget.money:
        return f"costs about {floor.money.likely:.2g} {floor.money.unit} and the budget is {budget.money:g} {budget.currency}"
    if floor.memory.likely > limit:
        return f"needs about {floor.memory.likely:.1f} GiB of memory and may take {limit:.1f}"
    return ""
