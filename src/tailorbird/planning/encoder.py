"""Plan of the rung ``encoder``: a sentence encoder tuned for the labels of a classify task, with a linear head over its vectors.

The encoder is that of the floor, the one that is installed: what the plan estimates is its training, the vectors of train and dev, and
where an item may bear several labels the fit of the head.
"""

from __future__ import annotations

from typing import Literal

from tailorbird.domain.ladder import AVERAGED_ENCODERS, ENCODER_PARTS, RungKind
from tailorbird.domain.plan import Estimate, Reason, RungPlan, TrainingSettings
from tailorbird.planning.floor import floor_memory, floor_request, floor_time, text_tokens, vectors_time, why_not_encoder
from tailorbird.planning.flops import backbone_parameters
from tailorbird.planning.inputs import PlanInputs
from tailorbird.planning.lookup_cost import SPREAD, encoder_rate
from tailorbird.planning.memory import GIB
from tailorbird.planning.setting_rules import WARMUP, usual_precision
from tailorbird.planning.time_and_cost import energy_estimate, money_estimate
from tailorbird.planning.traffic_cost import around, total

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
    many = _many(inputs)
    readings = _label_set_readings(inputs, settings.epochs) if many else _readings(inputs, settings.epochs)
    flops = 2.0 * backbone_parameters(encoder) * text_tokens(inputs) * readings
    training = around(flops / _rate(inputs, settings), SPREAD, "s")
    # With several labels a head over words is fitted twice, and vectors are read of rows held out and of dev.
    heads = [floor_time(inputs, with_vectors=False)] * 2 if many else []
    time = total(training, vectors_time(inputs, _HELD_OUT if many else 1.0), *heads)
    then = "added to a linear head over words" if many else "which are compared with a vector that stands for each label"
    what = f"{encoder.name}, tuned so that texts of one label lie together, {then}"
    return RungPlan(
        rung=RungKind.ENCODER,
        variant=variant_of(inputs),
        training=settings,
        trained_parameters=encoder.parameters if many else backbone_parameters(encoder) // 2,
        time=time,
        memory=_memory(inputs, settings),
        money=money_estimate(inputs, time),
        flops=around(flops, SPREAD, "FLOP"),
        energy=energy_estimate(inputs, time),
        serving_cost=money_estimate(inputs, floor_request(inputs, with_vectors=True)),
        training_time=training,
        encoder=encoder.digest,
        reasons=(Reason(rule="encoder", text=what, source="Tunstall et al. 2022, arXiv 2209.11055"), *reasons),
    )


def variant_of(inputs: PlanInputs) -> str:
    """What learns."""
    return VARIANT_OF_SETS if _many(inputs) else VARIANT


def _many(inputs: PlanInputs) -> bool:
    return inputs.objective.task.labels == "many"


def _rate(inputs: PlanInputs, settings: TrainingSettings) -> float:
    """FLOP/s of the tuning."""
    machine = inputs.machine
    gain = machine.bf16_gflops / machine.fp32_gflops if settings.precision == "bf16" and machine.fp32_gflops else 1.0
    return encoder_rate(inputs) * max(gain, 1.0)


def _readings(inputs: PlanInputs, passes: int) -> float:
    """What all encoders compute of one label an item, in readings of a row by an encoder. To learn is to read, and gradients go through
    the upper half of the layers, which takes twice as much again; each begins with the vectors of what it learns, the names of the labels
    among it, and reads what it lacks before and after."""
    lacked = inputs.train_rows / ENCODER_PARTS
    learned = inputs.train_rows - lacked + len(inputs.manifest.labels)
    return AVERAGED_ENCODERS * ((2 * passes + 1) * learned + 2 * lacked)


def _label_set_readings(inputs: PlanInputs, passes: int) -> float:
    """The same of several labels: gradients go through all layers; the rows that bear a label are read to begin with, and those held out
    then and after each pass."""
    rows = inputs.train_rows
    bearing = sum(counts.train for counts in inputs.manifest.label_counts.values()) or rows
    in_a_pass = min(rows, (1 + _WITHOUT) * bearing)
    return (1 - _HELD_OUT) * (3 * passes * in_a_pass + min(rows, bearing)) + _HELD_OUT * (passes + 1) * in_a_pass


def tuning_settings(
    learning_rate: float, passes: int, seed: int, threads: int, precision: Literal["bf16", "fp32"] = "fp32"
) -> TrainingSettings:
    """How an encoder is tuned for labels."""
    return TrainingSettings(
        method="full",
        lora=None,
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
    if _many(inputs):
        return _label_set_settings(inputs, inputs.encoder.hidden)
    rate = float(f"{RATE * (384 / inputs.encoder.hidden) ** 0.5:.1e}")
    rows = inputs.train_rows
    passes = PASSES if rows < _MANY else PASSES // 2 if rows < _VERY_MANY else PASSES // 6
    learned = f"{passes} passes of {BATCH} rows a step at {rate:g}"
    text = f"{AVERAGED_ENCODERS} encoders, each without a twentieth of the rows, {learned}; their weights are averaged"
    settings = tuning_settings(rate, passes, inputs.objective.seed, inputs.machine.threads, usual_precision(inputs.machine))
    return settings, (Reason(rule="tuning", text=text, source="docs/decisions/0114"),)


def _label_set_settings(inputs: PlanInputs, width: int) -> tuple[TrainingSettings, tuple[Reason, ...]]:
    rate = float(f"{LABEL_SET_RATE * (384 / width) ** 0.5:.1e}")
    text = (
        f"{LABEL_SET_PASSES} passes of {BATCH} rows a step at {rate:g} over the rows that bear a label, and {_WITHOUT} for each that "
        "bear none, others in every pass, whose last weights are kept; a fifth of the rows, by whole groups, chooses how much words "
        "count, and thresholds"
    )
    precision = usual_precision(inputs.machine)
    settings = tuning_settings(rate, LABEL_SET_PASSES, inputs.objective.seed, inputs.machine.threads, precision)
    return settings, (Reason(rule="tuning", text=text, source="docs/decisions/0115"),)


def _memory(inputs: PlanInputs, settings: TrainingSettings) -> Estimate:
    """The floor's process, with gradients, moments and a copy of the best weights, and one batch of texts."""
    encoder = inputs.encoder
    assert encoder is not None
    batch = settings.batch_size * text_tokens(inputs) * 4 * _KEPT * encoder.hidden * encoder.layers
    return total(floor_memory(inputs, with_vectors=True), around((4 * 4 * encoder.parameters + batch) / GIB, (0.7, 2.0), "GiB"))
