"""Estimates of memory."""

from __future__ import annotations

import pytest

from support.planning import MACHINE, SMALL, inputs, llama
from tailorbird.domain.base_model import ModelAnatomy
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.plan import LoraSettings, Plan, RungPlan, TokenProfile, TrainingSettings
from tailorbird.planning import make_plan
from tailorbird.planning.estimates import adapter_parameters, longest_pass, training_memory


def rung(plan: Plan, kind: RungKind, variant: str | None = None) -> RungPlan:
    return next(r for r in plan.rungs if r.rung is kind and variant in (None, r.variant))


def trained(plan: Plan, kind: RungKind) -> TrainingSettings:
    settings = rung(plan, kind).training
    assert settings is not None
    return settings


def test_memory_meets_the_published_peaks() -> None:
    """PEFT's MetaMathQA bench, Llama-3.2-3B in bf16, batches of 4 x 768 tokens: LoRA r32 on q and v 20.8 GiB, on the MLP 23.0 GiB.

    Of these 4.4 GiB are logits (three fp32 copies), of which our loop holds 256 rows.
    """
    base = llama(3072, 28, 8192, 1024, parameters=3_212_749_824, vocabulary=128_256)
    tokens = TokenProfile(shared_prefix=0, prompt_mean=1, prompt_p95=384, prompt_max=1, target_mean=767, target_max=767, label_trie=0)
    given_inputs = inputs(base=base, tokens=tokens, machine=MACHINE.model_copy(update={"gpus": ("L40S",)}))
    settings = trained(make_plan(inputs()), RungKind.LORA)
    for rank, targets, measured in ((32, ("q_proj", "v_proj"), 20.8), (10, ("gate_proj", "up_proj", "down_proj"), 23.0)):
        adapter = LoraSettings(rank=rank, alpha=32, targets=targets)
        run = settings.model_copy(update={"lora": adapter, "batch_size": 4, "token_budget": 3200, "precision": "bf16"})
        estimate = training_memory(given_inputs, run)
        without_logits = measured - 3 * 4 * 3072 * base.vocabulary / 2**30
        assert estimate.likely == pytest.approx(without_logits, rel=0.06)
        assert estimate.low < without_logits < estimate.high
        assert adapter_parameters(base, adapter) < 0.01 * base.parameters


@pytest.mark.parametrize(
    "precision",
    [
        "bf16",
    ],
)
@pytest.mark.parametrize("answer", [8, 600])
def test_logits_that_a_model_makes_itself_are_all_held(precision: str, answer: int) -> None:
    """Gemma 2 caps them, Phi adds a bias: no block of 256 is computed at a time."""
    anatomy = ModelAnatomy(model_type="gemma2", heads=8, key_heads=4, head_width=64, linear_groups=SMALL.linear_groups)
    plain = SMALL.model_copy(update={"anatomy": anatomy, "vocabulary": 256_000})
    own = plain.model_copy(update={"anatomy": anatomy.model_copy(update={"own_logits": True})})
    lengths = {"prompt_mean": 20, "prompt_p95": 20, "prompt_max": 20, "target_mean": answer, "target_max": answer, "label_trie": 0}
    tokens = TokenProfile(shared_prefix=0, **lengths)
    settings = trained(make_plan(inputs()), RungKind.LORA).model_copy(update={"precision": precision})
    blocks, whole = (training_memory(inputs(base=base, tokens=tokens), settings).likely for base in (plain, own))
    answers = longest_pass(inputs(base=own, tokens=tokens), settings) * answer / (20 + answer)
    block = 2 * (4 if precision == "fp32" else 2) * min(256, answers)
    # A cap's output and product, log-probabilities and their gradient.
    assert (whole - blocks) * 2**30 >= (16 * answers - block) * 256_000
    assert own.anatomy is not None
