"""Fit of a base model to machines, and the machine that would do, in ``models fit`` and in plans."""

from __future__ import annotations

import pytest

from support.planning import LARGE, MACHINE, SMALL, TOKENS, inputs, objective
from tailorbird.domain.base_model import BaseModelRef, ExpertWeights, LinearGroup, ModelAnatomy
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.plan import MethodFit, ModelFit
from tailorbird.planning import FitQuestion, MachineChange, fit_of, make_plan, with_machine_change
from tailorbird.planning.memory import training_memory
from tailorbird.planning.model_fit import DIVISIBLE, GPUS, HERE, METHODS, fitted, needed_memory
from tailorbird.training.methods import methods


def mixture() -> BaseModelRef:
    """One hundred billion weights in experts, and two beside them."""
    shapes = {"q_proj": (2880, 4096), "k_proj": (2880, 512), "v_proj": (2880, 512), "o_proj": (4096, 2880)}
    anatomy = ModelAnatomy(
        model_type="gpt_oss",
        heads=64,
        key_heads=8,
        head_width=64,
        linear_groups=tuple(LinearGroup(name=name, inputs=i, outputs=o, count=36) for name, (i, o) in shapes.items()),
        experts=ExpertWeights(experts=128, active=4, parameters=100_000_000_000),
    )
    wide = {"hidden": 2880, "layers": 36, "intermediate": 2880, "linear_shapes": shapes, "anatomy": anatomy}
    return LARGE.model_copy(update=wide | {"parameters": 102_000_000_000, "vocabulary": 201_088})


def of(fit: ModelFit, method: str, machine: str = HERE) -> MethodFit:
    return next(one for one in fit.methods if (one.method, one.machine) == (method, machine))


def test_every_method_on_this_machine_and_on_each_gpu() -> None:
    fit = fit_of(SMALL, MACHINE, FitQuestion())
    assert [(one.machine, one.method) for one in fit.methods] == [
        (machine, method) for machine in (HERE, *(gpu.title for gpu in GPUS.values())) for method in METHODS
    ]
    for one in fit.methods:
        parts = one.weights_gb + one.optimiser_gb + one.activations_gb
        assert one.memory.low < one.memory.likely < one.memory.high
        assert one.method == "qlora" or parts < one.memory.likely == pytest.approx(parts + 0.55, abs=0.1)
        assert min(one.weights_gb, one.optimiser_gb, one.activations_gb) > 0
        assert one.speed.low < one.speed.likely < one.speed.high
    assert of(fit, "lora").verdict == "fits"
    assert of(fit, "lora").weights_gb == pytest.approx(2 * 134_515_008 / 2**30, rel=0.1)
    assert of(fit, "full").optimiser_gb == pytest.approx(12 * 134_515_008 / 2**30)


def test_eight_billion_weights_need_the_machines_that_people_use_for_them() -> None:
    fit = fit_of(LARGE, MACHINE, FitQuestion())
    verdicts = {gpu: of(fit, "lora", GPUS[gpu].title).verdict for gpu in ("t4", "a10", "l40s", "h100")}
    assert verdicts == {"t4": "too large", "a10": "too large", "l40s": "fits", "h100": "fits"}
    assert of(fit, "full", GPUS["h100"].title).verdict == "too large"
    lora, qlora, full = fit.sufficient
    assert lora.count == qlora.count == 1
    assert full.text.endswith("that divide the weights would do")
    assert full.count > 1
    assert 3_000 < of(fit, "lora", GPUS["h100"].title).speed.likely < 20_000


def test_a_gpu_takes_smaller_passes_before_it_is_too_small() -> None:
    fit = fit_of(LARGE, MACHINE, FitQuestion(methods=("lora",)))
    passes = {gpu: of(fit, "lora", GPUS[gpu].title).pass_tokens for gpu in ("a10", "l40s", "h200")}
    assert 1024 <= passes["a10"] < passes["l40s"] < passes["h200"] == 8192
    asked = fit_of(LARGE, MACHINE, FitQuestion(methods=("lora",), length=512, batch_tokens=2048))
    assert of(asked, "lora", GPUS["h200"].title).pass_tokens == 2048


def test_experts_stay_in_16_bits() -> None:
    fit = fit_of(mixture(), MACHINE, FitQuestion())
    assert of(fit, "qlora").weights_gb > 2 * 100e9 / 2**30
    assert fit.active_parameters < 0.05 * fit.parameters
    assert [one.count > 1 for one in fit.sufficient] == [True, False, False]
    assert any("100.0 billion of the weights are experts" in note for note in fit.notes)
    assert any("not measured on a GPU" in note for note in fit.notes)
    assert "would do" in fit.sufficient[1].text


def test_a_gpu_without_bf16_computes_in_fp32() -> None:
    fit = fit_of(SMALL, MACHINE, FitQuestion())
    assert {machine.name: machine.precision for machine in fit.machines}[GPUS["t4"].title] == "fp32"
    assert of(fit, "lora", GPUS["t4"].title).weights_gb > 1.9 * of(fit, "lora", GPUS["l4"].title).weights_gb


def test_what_is_asked() -> None:
    assert of(fit_of(LARGE, MACHINE, FitQuestion(memory=640)), "full").verdict == "fits"
    assert of(fit_of(LARGE, MACHINE, FitQuestion()), "full").verdict == "too large"
    assert {one.method for one in fit_of(SMALL, MACHINE, FitQuestion(methods=("full",))).methods} == {"full"}
    short = SMALL.model_copy(update={"context": 512})
    assert fit_of(short, MACHINE, FitQuestion()).length == 512
    with pytest.raises(InvalidInput, match="longer than the context") as caught:
        fit_of(short, MACHINE, FitQuestion(length=1024))
    assert caught.value.error_code == "example_too_long"
    bare = SMALL.model_copy(update={"linear_shapes": {}, "anatomy": mixture().anatomy})
    assert {one.method for one in fit_of(bare, MACHINE, FitQuestion()).methods} == {"full"}


def test_a_plan_names_the_same_machine() -> None:
    plan = make_plan(inputs(base=LARGE, objective=objective(budget={"hours": 1e6, "money": 1e6})))
    refused = next(one for one in plan.left_out if one.rung is RungKind.FULL)
    fit = fit_of(LARGE, MACHINE, FitQuestion(length=46))
    (full,) = [one for one in fit.sufficient if one.method == "full"]
    assert f"GiB, or {full.text.removesuffix(' would do')}" in refused.reason
    gpu = next(gpu for gpu in GPUS.values() if gpu.title == fit.sufficient[0].gpu)
    name = next(name for name, one in GPUS.items() if one is gpu)
    there = with_machine_change(inputs(base=LARGE), MachineChange(gpu=name, hours=1e6, budget=1e6))
    assert RungKind.LORA in {rung.rung for rung in make_plan(there).rungs}


def test_a_plan_for_a_small_gpu_takes_smaller_passes() -> None:
    long = TOKENS.model_copy(update={"prompt_mean": 900.0, "prompt_p95": 1000, "prompt_max": 1000})
    there = with_machine_change(inputs(base=LARGE, tokens=long), MachineChange(gpu="l40s", hours=1e6, budget=1e6))
    lora = next(rung for rung in make_plan(there).rungs if rung.rung is RungKind.LORA)
    assert lora.training is not None
    assert lora.training.token_budget < 8192
    assert any("the memory holds no more" in reason.text for reason in lora.reasons)


def test_weights_are_divided_where_training_can() -> None:
    assert {name for name, method in methods().items() if method.divisible} == set(DIVISIBLE)


def test_what_only_measuring_takes_shortens_no_pass() -> None:
    work, settings = inputs(base=LARGE), next(one.training for one in make_plan(inputs()).rungs if one.training is not None)
    settings = settings.model_copy(update={"token_budget": 4096, "method": "qlora"})
    trained = training_memory(work, settings).high
    assert needed_memory(work, settings).high > trained
    assert fitted(work, settings, trained) == settings
    assert fitted(work, settings, trained - 1).token_budget < 4096


def test_every_method_needs_the_memory_of_measuring_its_result() -> None:
    fit = fit_of(LARGE, MACHINE, FitQuestion())
    assert all(one.memory.likely >= one.measuring_gb for one in fit.methods)


def test_the_cores_beside_another_gpu_are_those_that_were_said() -> None:
    there = with_machine_change(inputs(), MachineChange(gpu="h100", cores=5, memory=40.0)).machine
    assert (there.cores, there.threads, there.memory_gb) == (5, 5, 40.0)
