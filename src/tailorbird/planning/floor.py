"""Plan of the floor: its role, words alone or vectors beside them, and estimates of its time and memory.

Fitting is a loop over the sparse matrix, whose cost goes by rows × features of a row × labels × iterations; a vector is a forward pass of
the encoder. The constants fit the floors of the support desk example (docs/design/training.md).

Plan of the rung ``encoder``: a sentence encoder tuned for the labels of a classify task, with a linear head over its vectors.

The encoder is that of the floor, the one that is installed: what the plan estimates is its training, the vectors of train and dev, and
where an item may bear several labels the fit of the head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from tailorbird.domain.base_model import EncoderDescription
from tailorbird.domain.dataset import clash
from tailorbird.domain.evidence import FEWEST_EXAMPLES
from tailorbird.domain.ladder import AVERAGED_ENCODERS, ENCODER_PARTS, RungKind
from tailorbird.domain.objective import Objective
from tailorbird.domain.plan import Estimate, LoraSettings, PlannedFloor, Reason, RungPlan, TrainingSettings
from tailorbird.planning.estimates import (
    GIB,
    PROCESS_GIB,
    READING_ALONE,
    adapter_parameters,
    around,
    backbone_parameters,
    costs_of,
    encoder_rates,
    energy_estimate,
    in_all,
    interval,
    limit_of,
    money_estimate,
    total,
)
from tailorbird.planning.estimates import total as summed
from tailorbird.planning.inputs import PlanInputs
from tailorbird.planning.setting_rules import ALPHA, usual_precision

#: Features of a text a token: words, pairs of them, runs of characters, each once.
_FEATURES = 11.0
#: Seconds to count the features of a token; to multiply one feature of one row by the weight of one label in one iteration.
_COUNTING, _PRODUCT = (1.2e-5, 2.0e-5, 6.0e-5), (1.5e-9, 3.0e-9, 1.2e-8)
#: Iterations of the solver, of words alone and with vectors.
_ITERATIONS, _ITERATIONS_OF_VECTORS = (20.0, 40.0, 150.0), (40.0, 120.0, 400.0)
#: Seconds until the libraries are read; seconds that a request takes beside its features and its vector.
_START, _REQUEST = (0.5, 1.5, 10.0), (2e-4, 5e-4, 2e-3)
#: Features of a text that no text before it had, at the first ten thousand; numbers that the solver keeps a weight.
_NEW_FEATURES, _KEPT = 0.45, 24
#: Tokens of a text that are learned, of an encoder that reads more: its activations are kept for the pass back.
MOST_LEARNED = 512
#: How many times as long as what is read the longer texts are where it is told.
_CUT = 1.25
#: Up to so many rows each of five parts is left out once, above it two are.
_ALL_FOLDS = 2_000
#: Fits of four times three quarters of the labels' rows.
_QUARTERS = 3.0
#: Times that the vectors of training rows are in memory where requests are compared with them: asked for once, in one array, rounded, and
#: kept; products that are held at a time (``text/linear_classifier.py``).
_HELD, _PRODUCTS = 3.6, 2**24
_GIB = 2.0**30


def floor_time(inputs: PlanInputs, *, with_vectors: bool) -> Estimate:
    """Seconds to count, fit, and measure dev, without the vectors."""
    train, dev, tokens = inputs.train_rows, inputs.dev_rows, text_tokens(inputs)
    products = train * (_FEATURES * tokens + (described(inputs).width if with_vectors else 0)) * _regressions(inputs)
    iterations = _ITERATIONS_OF_VECTORS if with_vectors else _ITERATIONS
    return _summed(
        _START,
        [(train + 2 * dev) * tokens * each for each in _COUNTING],
        [_fits(inputs, with_vectors=with_vectors) * products * many * each for many, each in zip(iterations, _PRODUCT, strict=True)],
        [dev * each for each in _REQUEST],
    )


def vectors_time(inputs: PlanInputs, share: float = 1.0) -> Estimate:
    """Seconds for the vectors of ``share`` of train, and of dev: FLOPs of a forward pass over the rate of this machine's products."""
    texts = share * inputs.train_rows + inputs.dev_rows
    return _summed([texts * _vector_flops(inputs) / rate for rate in encoder_rates(inputs)])


def floor_request(inputs: PlanInputs, *, with_vectors: bool) -> Estimate:
    """Seconds of 1,000 requests that come one by one."""
    alone = encoder_rates(inputs, READING_ALONE)
    vector = [_vector_flops(inputs) / rate for rate in alone] if with_vectors else [0.0] * 3
    counting = [each * text_tokens(inputs) for each in _COUNTING]
    return _summed(*([1000 * seconds for seconds in part] for part in (_REQUEST, counting, vector)))


def floor_memory(inputs: PlanInputs, *, with_vectors: bool) -> Estimate:
    """GiB of the whole process: the interpreter and its libraries, the matrix of features, the solver's weights, and the encoder."""
    rows, features = inputs.train_rows, _FEATURES * text_tokens(inputs)
    # One regression after another where each label has its own.
    at_once = 1 if inputs.objective.task.labels == "many" else _regressions(inputs)
    vocabulary = features * _NEW_FEATURES * rows if rows <= 10_000 else features * _NEW_FEATURES * (rows * 10_000) ** 0.5
    width = described(inputs).width if with_vectors else 0
    matrix, weights = 12 * rows * (features + width), 8 * vocabulary * (at_once * _KEPT + _labels(inputs))
    encoder = 4 * inputs.encoder.parameters if with_vectors and inputs.encoder else 0
    held = (2 * matrix + weights + encoder + (_kept_vectors(inputs) if with_vectors else 0)) / _GIB
    return interval([PROCESS_GIB + share * held for share in (0.5, 1.0, 2.5)], "GiB")


def _kept_vectors(inputs: PlanInputs) -> float:
    """Bytes of the vectors that requests are compared with where those out of scope are refused, and of their products with dev's."""
    if inputs.objective.task.out_of_scope is None:
        return 0.0
    train, dev = inputs.train_rows, inputs.dev_rows
    return 4 * (described(inputs).width * (_HELD * train + dev) + min(_PRODUCTS, train * dev))


def text_tokens(inputs: PlanInputs) -> float:
    """Tokens of a text, as the base model counts them."""
    return max(1.0, inputs.tokens.prompt_mean - inputs.tokens.shared_prefix)


def read_tokens(inputs: PlanInputs) -> float:
    """Those of them that the encoder reads."""
    return min(text_tokens(inputs), described(inputs).max_tokens)


def described(inputs: PlanInputs) -> EncoderDescription:
    """The encoder's description; without an encoder, that of the catalogue's first in size and length."""
    found = inputs.encoder.encoder if inputs.encoder else None
    return found or EncoderDescription(max_tokens=256, width=384)


def cut_texts(inputs: PlanInputs) -> str:
    """What an encoder does not read of the texts; empty where it reads most of them to their end."""
    most = described(inputs).max_tokens
    if inputs.encoder is None or inputs.tokens.prompt_p95 - inputs.tokens.shared_prefix <= _CUT * most:
        return ""
    longest = inputs.tokens.prompt_max - inputs.tokens.shared_prefix
    return (
        f"{inputs.encoder.name} reads the first {most:,} tokens of a text, and texts have {text_tokens(inputs):,.0f} on average, "
        f"{longest:,} at most: what stands behind that is no part of its vector (the floor counts the words of the whole text)"
    )


def _labels(inputs: PlanInputs) -> int:
    return max(1, len(inputs.manifest.labels))


def _regressions(inputs: PlanInputs) -> int:
    """Weights of a feature that are fitted: one where two labels exclude each other."""
    labels = _labels(inputs)
    return 1 if labels == 2 and inputs.objective.task.labels == "one" else labels


def _fits(inputs: PlanInputs, *, with_vectors: bool) -> float:
    """Times that the rows are fitted: where an item may bear several labels, parts of them are left out, four fifths learned each time, to
    choose the length of vectors (of two) and thresholds (``rungs/floor.py``). Where requests out of scope are refused with no
    examples, or few, each quarter of the labels is left out (``rungs/floor.py``)."""
    if inputs.objective.task.labels != "many":
        examples = inputs.manifest.label_counts.get(inputs.manifest.outside)
        enough = examples is not None and examples.train + examples.dev >= FEWEST_EXAMPLES
        return 1.0 if inputs.objective.task.out_of_scope is None or enough else 1 + _QUARTERS
    lengths = 2 if with_vectors else 1
    left_out = 5 * lengths if inputs.train_rows <= _ALL_FOLDS else lengths + 1
    return 1 + 0.8 * left_out


def _vector_flops(inputs: PlanInputs) -> float:
    """Of one text: two for each weight that a token meets."""
    if inputs.encoder is None:
        return 0.0
    met = inputs.encoder.parameters - inputs.encoder.vocabulary * inputs.encoder.hidden
    return 2.0 * max(met, 0) * read_tokens(inputs)


def _summed(*parts: Sequence[float]) -> Estimate:
    return interval([sum(each) for each in zip(*parts, strict=True)], "s")


#: Training rows up to which vectors are read unasked: some minutes on a core.
MOST_ROWS = 20_000


def planned_floor(inputs: PlanInputs) -> PlannedFloor:
    """Vectors where the objective asks for them; where it leaves it open, where there is an encoder that may be used, rows are few, and the
    budget and the memory bear them. What not even words fit into is refused."""
    words, why_not = _estimated(inputs, _words(inputs), with_vectors=False), _why_words(inputs)
    if inputs.encoder is not None and not why_not:
        rows = inputs.train_rows
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
    """Reason to use words alone, whatever the encoder; empty where an encoder helps."""
    if objective.floor.vectors is False:
        return "words alone, as the objective asks"
    if objective.floor.vectors == "auto" and rows > MOST_ROWS:
        return f"words alone: {rows:,} training rows are more than {MOST_ROWS:,}, unless `floor: {{vectors: true}}` asks for it"
    return ""


def why_not_encoder(objective: Objective, name: str, license_: str) -> str:
    """Reason not to use an encoder (licence); empty where it may be used."""
    why = clash(license_, objective.business.use)
    return f"the licence {license_} of {name} clashes with `business.use`: {why}" if why else ""


def _why_words(inputs: PlanInputs) -> str:
    """Why words alone are read although there may be an encoder; empty where nothing stands in the way."""
    if why := why_words(inputs.objective, inputs.train_rows):
        return why
    why = why_not_encoder(inputs.objective, inputs.encoder.name, inputs.encoder.license) if inputs.encoder else ""
    return f"words alone: {why}" if why else ""


def _words(inputs: PlanInputs) -> PlannedFloor:
    return PlannedFloor(role="rung" if inputs.objective.releases_floor else "reference", reason=_reason("words alone"))


def _reason(text: str) -> Reason:
    return Reason(rule="vectors", text=text, source="docs/design/ladder.md")


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


#: What learns where an item bears one label, and where it may bear several.
VARIANT, VARIANT_OF_SETS = f"upper layers, {AVERAGED_ENCODERS} averaged", "all weights"
#: Passes over the rows, rows of a step, and learning rate at width 384.
PASSES, BATCH, RATE = 6, 32, 2e-4
#: Rows from which half of the passes do, and a sixth: each row is seen less often, and there are as many steps.
_MANY, _VERY_MANY = 2_000, 10_000
#: The same where an item may bear several labels: rows that bear none are drawn anew for each pass, so many for each that bears one, and a
#: fifth of all is held out.
LABEL_SET_PASSES, LABEL_SET_RATE = 4, 2e-4
_WITHOUT, _HELD_OUT = 1, 0.2
#: Rank of an adapter that is tuned in place of the weights, and how many times their rate it learns at.
RANK, _RATE_OF_ADAPTERS = 16, 10
#: Numbers of a token that are kept in each layer for the backward pass, in widths.
_KEPT_WIDTHS = 34


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
        memory=_memory(inputs, settings),
        **costs_of(inputs, time),
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
    return settings, (*found, Reason(rule="adapter", text=text, source="docs/design/rungs.md"))


def _averaged_text(settings: TrainingSettings) -> tuple[str, str]:
    learned = f"{settings.epochs} passes of {BATCH} rows a step at {settings.learning_rate:g}"
    text = f"{AVERAGED_ENCODERS} encoders, each without a twentieth of the rows, {learned}; their weights are averaged"
    return text, "docs/design/rungs.md"


def _label_set_text(settings: TrainingSettings) -> tuple[str, str]:
    text = (
        f"{LABEL_SET_PASSES} passes of {BATCH} rows a step at {settings.learning_rate:g} over the rows that bear a label, and {_WITHOUT} "
        "for each that bear none, others in every pass, whose last weights are kept; a fifth of the rows, by whole groups, chooses how "
        "much words count, and thresholds"
    )
    return text, "docs/design/rungs.md"


def _memory(inputs: PlanInputs, settings: TrainingSettings) -> Estimate:
    """The floor's process, with gradients, moments and a copy of the best weights, and one batch of texts."""
    encoder = inputs.encoder
    assert encoder is not None
    batch = settings.batch_size * read_tokens(inputs) * 4 * _KEPT_WIDTHS * encoder.hidden * encoder.layers
    learned = 4 * encoder.parameters if settings.lora is None else encoder.parameters + 4 * _trained(inputs, settings)
    return total(floor_memory(inputs, with_vectors=True), around((4 * learned + batch) / GIB, (0.7, 2.0), "GiB"))
