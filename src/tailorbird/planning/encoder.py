"""Plan of the rung ``encoder``: a sentence encoder tuned for the labels of a classify task, with a linear head over its vectors.

The encoder is that of the floor, the one that is installed: what the plan estimates is its training, the vectors of train and dev, and
where an item may bear several labels the fit of the head.
"""

from __future__ import annotations

import math
from typing import Literal

from tailorbird.domain.ladder import AVERAGED_ENCODERS, ENCODER_PARTS, RungKind
from tailorbird.domain.plan import Estimate, LoraSettings, Reason, RungPlan, TrainingSettings
from tailorbird.planning.floor import (
    MOST_LEARNED,
    described,
    floor_memory,
    floor_request,
    floor_time,
    read_tokens,
    vectors_time,
    why_not_encoder,
)
from tailorbird.planning.flops import adapter_parameters, backbone_parameters
from tailorbird.planning.inputs import PlanInputs
from tailorbird.planning.lookup_cost import encoder_rates
from tailorbird.planning.memory import GIB
from tailorbird.planning.setting_rules import ALPHA, WARMUP, usual_precision
from tailorbird.planning.time_and_cost import around, energy_estimate, interval, money_estimate, total

#: What learns where an item bears one label, and where it may bear several.
VARIANT, VARIANT_OF_SETS = f"upper layers, {AVERAGED_ENCODERS} averaged", "all weights"
#: Passes over the rows, rows of a step, and learning rate at width 384 (docs/decisions/0114).
PASSES, BATCH, RATE = 6, 32, 2e-4
#: Rows from which half of the passes do, and a sixth: each row is seen less often, and there are as many steps.
_MANY, _VERY_MANY = 2_000, 10_000
#: The same where an item may bear several labels: rows that bear none are drawn anew for each pass, so many for each that bears one, and a
#: fifth of all is held out (docs/decisions/0115).
LABEL_SET_PASSES, LABEL_SET_RATE = 4, 2e-4
_WITHOUT, _HELD_OUT = 1, 0.2
#: Rank of an adapter that is tuned in place of the weights, and how many times their rate it learns at (docs/decisions/0118).
RANK, _RATE_OF_ADAPTERS = 16, 10
#: Numbers of a token that are kept in each layer for the backward pass, in widths.
_KEPT = 34


def why_not_tuned(inputs: PlanInputs) -> str:
    """Reason why no encoder can be tuned: there is none, or its licence forbids the use. Empty where one can."""
    if inputs.encoder is None:
        return inputs.without_encoder or "no encoder is installed (tailorbird models pull minilm-l6-v2)"
    return why_not_encoder(inputs.objective, inputs.encoder.name, inputs.encoder.license)


def tuned_encoder(inputs: PlanInputs) -> RungPlan:
    """The encoder that is installed, which there must be, tuned for the labels."""
    encoder = inputs.encoder
    assert encoder is not None
    settings, reasons = _settings(inputs)
    many, passes = _many(inputs), settings.epochs
    # An adapter needs no gradients of the weights beside it: half of what going back takes.
    back = (1.0 if many else 0.5) * (1 if settings.lora else 2)
    readings = _label_set_readings(inputs, passes * (1 + back)) if many else _readings(inputs, passes * (1 + back))
    flops = 2.0 * backbone_parameters(encoder) * _padded_tokens(inputs) * readings
    training = interval([flops / rate for rate in _rates(inputs, settings)], "s")
    # With several labels a head over words is fitted twice, and vectors are read of rows held out and of dev.
    heads = [floor_time(inputs, with_vectors=False)] * 2 if many else []
    time = total(training, vectors_time(inputs, _HELD_OUT if many else 1.0), *heads)
    then = "added to a linear head over words" if many else "which are compared with a vector that stands for each label"
    what = f"{encoder.name}, tuned so that texts of one label lie together, {then}"
    return RungPlan(
        rung=RungKind.ENCODER,
        variant=variant_of(inputs),
        training=settings,
        trained_parameters=_trained(inputs, settings),
        time=time,
        memory=_memory(inputs, settings),
        money=money_estimate(inputs, time),
        flops=around(flops, (0.5, 1.5), "FLOP"),
        energy=energy_estimate(inputs, time),
        serving_cost=money_estimate(inputs, floor_request(inputs, with_vectors=True)),
        training_time=training,
        encoder=encoder.digest,
        reasons=(Reason(rule="encoder", text=what, source="Tunstall et al. 2022, arXiv 2209.11055"), *reasons),
    )


def variant_of(inputs: PlanInputs) -> str:
    """What learns."""
    adapter = f"r{_rank(inputs)}" if inputs.objective.encoder.method == "lora" else ""
    if _many(inputs):
        return adapter or VARIANT_OF_SETS
    return f"{adapter}, {VARIANT}" if adapter else VARIANT


def _rank(inputs: PlanInputs) -> int:
    asked = inputs.objective.encoder.rank
    return RANK if asked == "auto" else asked


def _lora(inputs: PlanInputs) -> LoraSettings | None:
    """The adapter, where one is asked for."""
    if inputs.objective.encoder.method == "full" or inputs.encoder is None:
        return None
    return LoraSettings(rank=_rank(inputs), alpha=ALPHA, targets=tuple(inputs.encoder.linear_shapes))


def _trained(inputs: PlanInputs, settings: TrainingSettings) -> int:
    """Weights that learn: of all layers, or of their upper half."""
    encoder = inputs.encoder
    assert encoder is not None
    if settings.lora is not None:
        return adapter_parameters(encoder, settings.lora) // (1 if _many(inputs) else 2)
    return encoder.parameters if _many(inputs) else backbone_parameters(encoder) // 2


def _many(inputs: PlanInputs) -> bool:
    return inputs.objective.task.labels == "many"


#: Of the gain of products in bf16, as a power, what a tuning has of it at best, usually, at worst: what lies between the products gains
#: nothing.
_GAINED = (0.75, 0.5, 0.0)


def _rates(inputs: PlanInputs, settings: TrainingSettings) -> list[float]:
    """FLOP/s of the tuning, at best, usually, at worst."""
    machine = inputs.machine
    gain = machine.bf16_gflops / machine.fp32_gflops if settings.precision == "bf16" and machine.fp32_gflops else 1.0
    return [rate * max(gain, 1.0) ** power for rate, power in zip(encoder_rates(inputs), _GAINED, strict=True)]


def _padded_tokens(inputs: PlanInputs) -> float:
    """Tokens that a text takes in a batch, whose texts are padded to the longest of them; with several labels texts of like length are
    read together."""
    if _many(inputs):
        return read_tokens(inputs)
    longest = max(inputs.tokens.prompt_max - inputs.tokens.shared_prefix, read_tokens(inputs))
    return min(
        read_tokens(inputs) + inputs.tokens.row_sd * math.sqrt(2 * math.log(BATCH)), longest, MOST_LEARNED, described(inputs).max_tokens
    )


def _readings(inputs: PlanInputs, passes: float) -> float:
    """What all encoders compute of one label an item, in readings of a row by an encoder; ``passes`` count what going back takes, through
    the upper half of the layers. Each begins with the vectors of what it learns, the names of the labels
    among it, and reads what it lacks before and after."""
    lacked = inputs.train_rows / ENCODER_PARTS
    learned = inputs.train_rows - lacked + len(inputs.manifest.labels)
    return AVERAGED_ENCODERS * ((passes + 1) * learned + 2 * lacked)


def _label_set_readings(inputs: PlanInputs, passes: float) -> float:
    """The same of several labels: gradients go through all layers; the rows that bear a label are read to begin with, and those held out
    then and after each pass."""
    rows = inputs.train_rows
    bearing = sum(counts.train for counts in inputs.manifest.label_counts.values()) or rows
    in_a_pass = min(rows, (1 + _WITHOUT) * bearing)
    judged = LABEL_SET_PASSES + 1
    return (1 - _HELD_OUT) * (passes * in_a_pass + min(rows, bearing)) + _HELD_OUT * judged * in_a_pass


def tuning_settings(
    learning_rate: float,
    passes: int,
    seed: int,
    threads: int,
    precision: Literal["bf16", "fp32"] = "fp32",
    lora: LoraSettings | None = None,
) -> TrainingSettings:
    """How an encoder is tuned for labels: its weights, or an adapter."""
    return TrainingSettings(
        method="lora" if lora else "full",
        lora=lora,
        learning_rate=learning_rate,
        epochs=passes,
        batch_size=BATCH,
        token_budget=8192,
        max_length=256,
        warmup=WARMUP,
        weight_decay=0.0,
        clip_norm=1.0,
        evaluations_per_epoch=1,
        precision=precision,
        seed=seed,
        threads=threads,
    )


def _settings(inputs: PlanInputs) -> tuple[TrainingSettings, tuple[Reason, ...]]:
    assert inputs.encoder is not None
    lora, many, rows = _lora(inputs), _many(inputs), inputs.train_rows
    of_weights = LABEL_SET_RATE if many else RATE
    rate = float(f"{of_weights * (_RATE_OF_ADAPTERS if lora else 1) * (384 / inputs.encoder.hidden) ** 0.5:.1e}")
    usual = PASSES if rows < _MANY else PASSES // 2 if rows < _VERY_MANY else PASSES // 6
    passes, seed, threads = LABEL_SET_PASSES if many else usual, inputs.objective.seed, inputs.machine.threads
    settings = tuning_settings(rate, passes, seed, threads, usual_precision(inputs.machine), lora)
    settings = settings.model_copy(update={"max_length": min(MOST_LEARNED, described(inputs).max_tokens)})
    text, source = _label_set_text(settings) if many else _averaged_text(settings)
    found = (Reason(rule="tuning", text=text, source=source),)
    if lora is None:
        return settings, found
    text = f"an adapter of rank {lora.rank} in place of the weights: all releases share the encoder, and their requests are read together"
    return settings, (*found, Reason(rule="adapter", text=text, source="docs/decisions/0118"))


def _averaged_text(settings: TrainingSettings) -> tuple[str, str]:
    learned = f"{settings.epochs} passes of {BATCH} rows a step at {settings.learning_rate:g}"
    text = f"{AVERAGED_ENCODERS} encoders, each without a twentieth of the rows, {learned}; their weights are averaged"
    return text, "docs/decisions/0114"


def _label_set_text(settings: TrainingSettings) -> tuple[str, str]:
    text = (
        f"{LABEL_SET_PASSES} passes of {BATCH} rows a step at {settings.learning_rate:g} over the rows that bear a label, and {_WITHOUT} "
        "for each that bear none, others in every pass, whose last weights are kept; a fifth of the rows, by whole groups, chooses how "
        "much words count, and thresholds"
    )
    return text, "docs/decisions/0115"


def _memory(inputs: PlanInputs, settings: TrainingSettings) -> Estimate:
    """The floor's process, with gradients, moments and a copy of the best weights, and one batch of texts."""
    encoder = inputs.encoder
    assert encoder is not None
    batch = settings.batch_size * read_tokens(inputs) * 4 * _KEPT * encoder.hidden * encoder.layers
    learned = 4 * encoder.parameters if settings.lora is None else encoder.parameters + 4 * _trained(inputs, settings)
    return total(floor_memory(inputs, with_vectors=True), around((4 * learned + batch) / GIB, (0.7, 2.0), "GiB"))
