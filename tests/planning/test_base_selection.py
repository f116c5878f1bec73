"""Several base models on one ladder: which is in and why, and in what order their rungs stand."""

from __future__ import annotations

from typing import Any

import pytest

from support.planning import LARGE, MACHINE, SMALL, TOKENS, inputs, objective
from tailorbird.crypto.canonical_json import digest_bytes, digest_of
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.ladder import RungKind
from tailorbird.planning import BaseOffer, base_labels, make_ladder, make_plan, why_not_fetched

WIDE = SMALL.model_copy(
    update={"name": "wide", "digest": digest_bytes(b"wide"), "hidden": 768, "layers": 40, "intermediate": 2048, "parameters": 400_000_000}
)


def offer(base: BaseModelRef, label: str, **changes: Any) -> BaseOffer:
    return BaseOffer(name=label, label=label, license="Apache-2.0", parameters=base.parameters, inputs=inputs(base=base, **changes))


def test_one_base_gives_the_plan_it_always_gave() -> None:
    alone, joint = make_plan(inputs()), make_ladder([offer(SMALL, "small")])
    assert joint.rungs == alone.rungs
    assert joint.left_out == alone.left_out
    assert joint.base_model == digest_of(SMALL)
    assert [(base.label, base.rungs) for base in joint.bases] == [("small", 6)]


def test_rungs_of_all_bases_stand_by_what_they_cost_in_all_and_those_of_one_base_in_their_order() -> None:
    plan = make_ladder([offer(WIDE, "wide"), offer(SMALL, "small")])
    for base, alone in (("small", make_plan(inputs())), ("wide", make_plan(inputs(base=WIDE)))):
        mine = [rung for rung in plan.rungs if rung.variant.endswith(f" on {base}")]
        assert [(rung.rung, rung.variant) for rung in mine] == [(rung.rung, f"{rung.variant} on {base}") for rung in alone.rungs]
        assert {rung.base for rung in mine} == {digest_of(SMALL if base == "small" else WIDE)}
    places = {(rung.rung, rung.variant): place for place, rung in enumerate(plan.rungs)}
    assert plan.rungs[0].variant == "zero-shot on small"  # the cheaper base comes first, wherever it is listed
    assert places[RungKind.LORA, "r16 on small"] < places[RungKind.LORA, "r16 on wide"]
    totals = [rung.total.likely for rung in plan.rungs if rung.total]
    assert totals == sorted(totals)
    assert digest_of(plan) == digest_of(make_ladder([offer(WIDE, "wide"), offer(SMALL, "small")]))


def test_a_base_whose_rungs_are_all_too_large_is_out_with_the_machine_that_would_do() -> None:
    large = LARGE.model_copy(update={"digest": digest_bytes(b"large")})
    plan = make_ladder([offer(large, "large", machine=MACHINE.model_copy(update={"memory_gb": 12.0})), offer(SMALL, "small")])
    found = {base.label: base for base in plan.bases}
    assert found["large"].rungs == 0
    assert found["large"].reason.startswith("out: prompt zero-shot: needs about")
    assert "use a machine with" in found["large"].reason
    assert found["small"].reason.startswith("in: 6 rungs")
    assert plan.base_model == digest_of(SMALL)  # the first that is in
    assert plan.tokens == TOKENS
    assert {rung.base for rung in plan.rungs} == {digest_of(SMALL)}
    assert [refusal.name for refusal in plan.left_out if "large" in refusal.variant] == ["prompt zero-shot on large"]


def test_licence_and_size_are_read_before_anything_is_fetched() -> None:
    assert why_not_fetched(objective(), MACHINE, "Apache-2.0", 8_000_000_000) == ""
    assert "does not allow commercial use" in why_not_fetched(objective(), MACHINE, "cc-by-nc-4.0", 1)
    research = objective(business={"goal": "g", "owner": "o", "risk": "minimal", "use": "research"})
    assert why_not_fetched(research, MACHINE, "cc-by-nc-4.0", 1) == ""
    reason = why_not_fetched(objective(), MACHINE, "Apache-2.0", 70_000_000_000)
    assert reason == ("its 70.0 billion weights alone need 130 GiB and may take 21.6: use a machine with 145 GiB")
    assert "use a machine with 29 GiB" in why_not_fetched(objective(), MACHINE, "Apache-2.0", 14_000_000_000)


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("smollm2-135m", "models/Wide"), ("smollm2-135m", "wide")),
        (("hf://a/X@v1", "hf://a/X@v2"), ("x@v1", "x@v2")),
        (("one/base", "two/base"), ("one-base", "two-base")),
    ],
)
def test_bases_are_named_as_shortly_as_tells_them_apart(names: tuple[str, ...], labels: tuple[str, ...]) -> None:
    assert base_labels(names) == labels
