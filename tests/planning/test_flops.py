"""Counts of parameters and FLOPs."""

from __future__ import annotations

from support.planning import SMALL, inputs, llama
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.plan import Plan, RungPlan, TrainingSettings
from tailorbird.planning import make_plan
from tailorbird.planning.estimates import backbone_parameters, parameters_per_rank, training_flops


def rung(plan: Plan, kind: RungKind, variant: str | None = None) -> RungPlan:
    return next(r for r in plan.rungs if r.rung is kind and variant in (None, r.variant))


def trained(plan: Plan, kind: RungKind) -> TrainingSettings:
    settings = rung(plan, kind).training
    assert settings is not None
    return settings


def test_published_adapter_sizes() -> None:
    """Weights per rank over all linear layers, as published for five models (three checked here)."""
    llama_1b, llama_8b = llama(2048, 16, 8192, 512, parameters=1), llama(4096, 32, 14336, 1024, parameters=1)
    assert [parameters_per_rank(base, tuple(base.linear_shapes)) for base in (SMALL, llama_1b, llama_8b)] == [305_280, 704_512, 2_621_440]
    assert backbone_parameters(SMALL) == 106_168_320


def test_flops_of_lora_are_two_thirds_of_full_where_the_backbone_rules() -> None:
    plan = make_plan(inputs())
    lora, full = (training_flops(inputs(), trained(plan, kind)) for kind in (RungKind.LORA, RungKind.FULL))
    assert 0.62 < lora / full < 0.75
