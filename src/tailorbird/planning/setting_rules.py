"""Rules that choose training and prompt settings."""

from __future__ import annotations

import math
from typing import Literal

from tailorbird.crypto.canonical_json import short
from tailorbird.domain.objective import TaskKind, TrainingWishes
from tailorbird.domain.plan import Machine, Reason, TokenProfile, TrainingSettings
from tailorbird.domain.prompt import SEARCHED_SHOTS, SEARCHED_SHOTS_WITHOUT_LABELS
from tailorbird.planning.estimates import parameters_per_rank, steps_per_pass
from tailorbird.planning.inputs import PASSAGE_TOKENS, PlanInputs, demonstration_tokens

RANKS = (8, 16, 32, 64)
SMALLEST_DEFAULT_RANK = 16
ALPHA = 32
BATCH = 16
#: A run of fewer steps ends before much is learned, so small sets are passed over more often, up to ten times.
LEAST_STEPS, MOST_PASSES = 100, 10
MOST_SHOTS = 12
SHOTS_WITHOUT_LABELS = 8
#: Rows that a token profile counts at most.
PROFILED_ROWS = 2_000

#: What is trained: adapters on the base as it is or in 4 bits, or all weights.
Method = Literal["lora", "qlora", "full"]

_ASKED = "the objective"
_TML = "Schulman et al., LoRA Without Regret, Thinking Machines 2025"


def completion_tokens(inputs: PlanInputs) -> int:
    """Tokens of all training answers, each row counted once."""
    return math.ceil(inputs.train_rows * inputs.tokens.learned_mean)


def rank(inputs: PlanInputs) -> tuple[int, Reason]:
    """R1: the smallest rank whose adapter has at least as many weights as there are answer tokens to learn, and no less than 16."""
    needed = completion_tokens(inputs)
    per_rank = parameters_per_rank(inputs.base, targets(inputs)[0])
    asked = inputs.objective.lora.rank
    if asked != "auto":
        text = f"rank {asked}, as the objective asks, gives {asked * per_rank:,} weights for {needed:,} answer tokens"
        return asked, Reason(rule="R1", text=text, source=_ASKED)
    fitting = [r for r in RANKS if r >= SMALLEST_DEFAULT_RANK and r * per_rank >= needed]
    chosen = fitting[0] if fitting else RANKS[-1]
    weights = f"rank {chosen} gives {chosen * per_rank:,} weights for {needed:,} answer tokens"
    text = f"{weights}: room enough" if fitting else f"{weights}: too few, so full fine-tuning may go further"
    return chosen, Reason(rule="R1", text=text, source=f"{_TML}: adapter weights >= answer tokens")


def full_capacity(inputs: PlanInputs) -> Reason:
    """R1 seen from above: what full fine-tuning could hold that an adapter could not."""
    needed, most = completion_tokens(inputs), RANKS[-1] * parameters_per_rank(inputs.base, targets(inputs)[0])
    if not most:
        text = f"no adapter is placed on {inputs.base.name}, so nothing smaller is trained"
    elif needed > most:
        text = f"{needed:,} answer tokens exceed what an adapter of rank {RANKS[-1]} holds ({most:,} weights)"
    else:
        text = f"capacity does not ask for it: {needed:,} answer tokens fit an adapter"
    return Reason(rule="R1", text=text, source=_TML)


def targets(inputs: PlanInputs) -> tuple[tuple[str, ...], Reason]:
    """R4: adapt all linear layers."""
    asked = inputs.objective.lora.targets
    if asked != "auto":
        return asked, Reason(rule="R4", text=f"{', '.join(asked)}, as the objective asks", source=_ASKED)
    names = tuple(inputs.base.linear_shapes)
    text = f"all {len(names)} linear layers of each block: attention alone learns less at equal size"
    anatomy = inputs.base.anatomy
    if anatomy is not None:
        gates = sorted({group.name for group in anatomy.linear_groups} - set(names))
        text = f"the {len(names)} kinds of linear layers of the {anatomy.model_type} blocks ({', '.join(names)})"
        text += f"; not {', '.join(gates)}, which are gates, or on which PEFT places none" if gates else ""
        text += f"; not the {anatomy.experts.experts} experts of a layer, whose weights are one tensor" if anatomy.experts else ""
    return names, Reason(rule="R4", text=text, source=f"{_TML}; QLoRA, arXiv 2305.14314")


def alpha(inputs: PlanInputs) -> tuple[int, Reason]:
    """R5: a fixed alpha, which keeps the best learning rate nearly the same at every rank."""
    asked = inputs.objective.lora.alpha
    if asked != "auto":
        return asked, Reason(rule="R5", text=f"alpha {asked}, as the objective asks", source=_ASKED)
    text = f"alpha {ALPHA} at every rank: alpha and learning rate turn the same knob, so only the rate is tuned"
    return ALPHA, Reason(rule="R5", text=text, source=_TML)


#: A run of fewer steps than this is short: an adapter then wants fifteen times the rate of full fine-tuning, not ten, and full fine-tuning
#: twice its rate (measured: docs/design/training.md).
SHORT_RUN = 200


def learning_rate(inputs: PlanInputs, method: Method, steps: int) -> tuple[float, Reason]:
    """R5: full = 1e-4 · (576 / hidden)^½, LoRA ten times that; in a run of fewer than 200 ``steps`` twice and fifteen times that."""
    asked = wishes(inputs, method).learning_rate
    if asked != "auto":
        return asked, Reason(rule="R5", text=f"{asked:g}, as the objective asks", source=_ASKED)
    rate_of_full, root = 1e-4 * math.sqrt(576 / inputs.base.hidden), 1.0
    ratio, word = (15, f"fifteen times (a run of {steps} steps is short)") if steps < SHORT_RUN else (10, "ten times")
    if method == "full":
        ratio, times = (2, f"twice (a run of {steps} steps is short) ") if steps < SHORT_RUN else (1, "")
    else:
        # rsLoRA multiplies the adapter's step by √rank, so its rate is divided by it: both turn the same knob.
        chosen = rank(inputs)[0]
        root, divided = (math.sqrt(chosen), f", divided by √{chosen} for rsLoRA,") if inputs.objective.lora.rslora else (1.0, "")
        times = f"{word}{divided} the rate of full fine-tuning, which is "
    rate = float(f"{(ratio * rate_of_full / root):.1e}")
    text = f"{rate:g}: {times}1e-4 at width 576, falling with the root of the width (here {inputs.base.hidden})"
    return rate, Reason(rule="R5", text=text, source=f"{_TML} (ratio 9.8 over 14 models); arXiv 2602.06204 (width)")


def wishes(inputs: PlanInputs, method: Method) -> TrainingWishes:
    """What the objective asks of training by ``method``."""
    return inputs.objective.full if method == "full" else inputs.objective.lora


def options(inputs: PlanInputs) -> tuple[Reason, ...]:
    """R7: variants of LoRA are of second order once the rate is tuned, so none is planned unless the objective asks for it."""
    if not inputs.objective.lora.rslora:
        return ()
    text = "rsLoRA, as the objective asks: variants differ by 1 to 2 % at their own best rate"
    return (Reason(rule="R7", text=text, source="arXiv 2602.04998 (nine variants)"),)


def four_bits(inputs: PlanInputs) -> Reason:
    """QLoRA is not a better LoRA: it takes a quarter of the memory for the frozen weights, and computes them anew at every use."""
    base = inputs.base
    text = f"{base.name} in 4 bits: no better than LoRA and slower, for memory that LoRA does not have; measured and served unquantised"
    return Reason(rule="memory", text=text, source="Dettmers et al. 2023, arXiv 2305.14314")


def batch_size() -> tuple[int, Reason]:
    """R6: small batches."""
    text = f"{BATCH} rows a step: LoRA loses by large batches, whatever its rank"
    return BATCH, Reason(rule="R6", text=text, source=_TML)


def epochs(inputs: PlanInputs, method: Method, batch: int) -> tuple[int, Reason]:
    """R10: three passes below 2,000 rows, two up to 20,000, one above; over small sets as many as give 100 steps, ten at most. The best
    checkpoint is kept in any case."""
    rows, asked = inputs.train_rows, wishes(inputs, method).epochs
    if asked != "auto":
        return asked, Reason(rule="R10", text=f"{asked} over {rows:,} rows, as the objective asks", source=_ASKED)
    passes = 3 if rows < 2_000 else 2 if rows <= 20_000 else 1
    needed = min(MOST_PASSES, math.ceil(LEAST_STEPS / steps_per_pass(rows, batch)))
    why = "repeats beyond that add little, and the checkpoint with the best held-out loss is kept"
    source = "Tulu 3, arXiv 2411.15124; arXiv 2305.16264"
    if needed > passes:
        passes, source = needed, "docs/design/training.md"
        why = "fewer would end before much is learned, and the checkpoint with the best held-out loss is kept"
    return passes, Reason(rule="R10", text=f"{passes} over {rows:,} rows: {why}", source=source)


def waiting_epochs(inputs: PlanInputs, settings: TrainingSettings, room: float) -> tuple[int, Reason]:
    """R11: as many passes again while a run has not begun to learn; ``room`` is how many times its likely cost the budget holds."""
    if wishes(inputs, settings.method).epochs != "auto":
        return 0, Reason(rule="R11", text="no passes are added, as the objective says how many there are", source=_ASKED)
    added = max(0, min(settings.epochs, math.floor(settings.epochs * (room - 1))))
    standing = "while the held-out loss is no lower than that of label frequencies alone, or of the untrained model"
    text = f"up to {added} more passes {standing}: it may take up to {(settings.epochs + added) / settings.epochs:.1f} times as long"
    if not added:
        text = "no passes are added to a run that has not begun to learn: the budget does not hold them"
    return added, Reason(rule="R11", text=text, source="docs/design/training.md")


def looks_per_epoch(passes: int) -> int:
    """How often the held-out loss is measured in each pass: twice, and at its end alone where the passes are many."""
    return 2 if passes <= 3 else 1


def max_length(inputs: PlanInputs) -> tuple[int, Reason]:
    """Long enough for the longest row, so that no answer is ever cut; half as much again where only a sample of the rows was counted."""
    seen = inputs.tokens.prompt_max + inputs.tokens.target_max
    sampled = inputs.train_rows > PROFILED_ROWS
    length = min(max(seen, inputs.base.context), math.ceil(1.5 * seen)) if sampled else seen
    text = f"{length} tokens: the longest prompt ({inputs.tokens.prompt_max}) and the longest answer ({inputs.tokens.target_max})"
    text += f", and half as much again, as only {PROFILED_ROWS:,} rows were counted" if sampled else ""
    return length, Reason(rule="length", text=text, source="truncated answers teach nothing; training refuses them")


def token_budget(inputs: PlanInputs, longest: int) -> tuple[int, Reason]:
    """Packed tokens of one forward pass: what keeps this machine's cores or GPU busy, and never less than the longest row."""
    usual = usual_token_budget(inputs.machine)
    budget = max(usual, longest)
    why = "what keeps this machine busy" if budget == usual else "the longest row alone"
    return budget, Reason(rule="packing", text=f"{budget} packed tokens a pass: {why}; it bounds the memory", source="docs/concepts.md")


#: Packed tokens of a forward pass that keep a processor's cores busy, and a GPU; with fewer than the first every machine gets slower.
LEAST_PASS, GPU_PASS = 1024, 8192


def usual_token_budget(machine: Machine) -> int:
    """Packed tokens of one forward pass that keep ``machine`` busy."""
    return GPU_PASS if machine.gpus else LEAST_PASS


def smaller_passes(budget: int) -> Reason:
    """Passes of ``budget`` tokens, as the memory holds no larger ones."""
    text = f"{budget} packed tokens a pass: the memory holds no more; a batch is as large as ever, in more passes"
    return Reason(rule="packing", text=text, source="docs/design/training.md")


def usual_precision(machine: Machine) -> Literal["bf16", "fp32"]:
    """bf16 where the processor has instructions for it."""
    return "bf16" if machine.fast_bf16 else "fp32"


def precision(inputs: PlanInputs) -> tuple[Literal["bf16", "fp32"], Reason]:
    """bf16 where this machine's processor has instructions for it. The rates are told, and decide nothing: a load would turn them."""
    machine = inputs.machine
    measured = f"measured {machine.bf16_gflops:.0f} GFLOP/s in bf16, {machine.fp32_gflops:.0f} in fp32"
    chosen = usual_precision(machine)
    able = "multiplies bf16 faster than fp32" if machine.fast_bf16 else "has no instructions for bf16"
    return chosen, Reason(rule="precision", text=f"{chosen}: the processor {able}; {measured}", source="what the processor can do")


def wanted_shots(inputs: PlanInputs) -> int:
    """Demonstrations of a prompt, where the context holds them."""
    return min(len(inputs.manifest.labels) or SHOTS_WITHOUT_LABELS, MOST_SHOTS, inputs.train_rows)


def fitting_shots(inputs: PlanInputs, wanted: int) -> int:
    """Of ``wanted`` demonstrations those that the context holds beside the longest prompt."""
    room = inputs.base.context - longest_prompt(inputs) - inputs.tokens.target_max
    return max(0, min(wanted, room // demonstration_tokens(inputs)))


def shots(inputs: PlanInputs) -> tuple[int, Reason]:
    """One demonstration a label, at most 12, as many as the context holds beside the longest prompt; 0 when none fits."""
    labels, wanted = len(inputs.manifest.labels), wanted_shots(inputs)
    fitting = fitting_shots(inputs, wanted)
    spread = "one a label" if fitting == labels else "spread over the labels" if labels else "spread over the rows"
    bound = "" if fitting == wanted else f" (the context of {inputs.base.context} tokens holds no more)"
    text = f"{fitting} demonstrations, {spread}, from train only{bound}"
    return fitting, Reason(rule="shots", text=text, source="Brown et al. 2020, arXiv 2005.14165")


#: Calls of a prompt's search.
SEARCH_CALLS = 800


def prompt_search(inputs: PlanInputs) -> tuple[int, int, Reason]:
    """Calls of the base model that a prompt's search may make, and demonstrations that it may show."""
    asked = inputs.objective.prompt_search.calls
    calls = SEARCH_CALLS if asked == "auto" else asked
    times = SEARCHED_SHOTS if inputs.manifest.labels else SEARCHED_SHOTS_WITHOUT_LABELS
    shots = fitting_shots(inputs, min(times * wanted_shots(inputs), inputs.train_rows))
    tried = f"up to {shots} demonstrations are tried on training rows held out, in pairs, with {calls:,} calls"
    return calls, shots, Reason(rule="search", text=tried, source="Opsahl-Ong et al. 2024, arXiv 2406.11695; Agrawal et al. 2025")


#: Training rows that are looked up and shown, and passages.
NEAREST, PASSAGES = 8, 3


def ways(inputs: PlanInputs) -> str:
    """How entries are found, as people read it."""
    return "words and meaning" if inputs.encoder else "words"


def finder(inputs: PlanInputs) -> str:
    """What finds passages, as people read it: the objective of the released ranking where one is named."""
    return inputs.ranker.objective if inputs.ranker else ways(inputs)


def nearest(inputs: PlanInputs) -> tuple[int, Reason]:
    """Up to 8 training rows, as many as the context holds."""
    room = inputs.base.context - longest_prompt(inputs) - inputs.tokens.target_max
    fitting = max(0, min(NEAREST, inputs.train_rows, room // demonstration_tokens(inputs)))
    how = "words and vectors, fused" if inputs.encoder else "words alone (no encoder is installed: tailorbird models pull minilm-l6-v2)"
    text = f"{fitting} training rows nearest to each text, by {how}; the nearest stands last"
    return fitting, Reason(rule="nearest", text=text, source="Liu et al. 2022, arXiv 2101.06804")


def passages(inputs: PlanInputs) -> tuple[int, Reason]:
    """Three passages of the tenant's documents, as many as the context holds; 0 without documents."""
    room = inputs.base.context - longest_prompt(inputs) - inputs.tokens.target_max
    fitting = max(0, min(PASSAGES if inputs.documents else 0, room // PASSAGE_TOKENS))
    by = finder(inputs)
    if ranker := inputs.ranker:
        by = f"release {short(ranker.release)} of {ranker.objective} ({ranker.made}), as the objective asks"
    text = f"{fitting} passages of {inputs.documents:,} documents for each text, by {by}, each only for those who may read it"
    return fitting, Reason(rule="grounding", text=text, source="Lewis et al. 2020, arXiv 2005.11401; Cormack et al. 2009 (fusion)")


def with_passages(inputs: PlanInputs, count: int) -> TokenProfile:
    """The rows' lengths with ``count`` passages in each prompt."""
    tokens, more = inputs.tokens, count * PASSAGE_TOKENS
    longer = {"prompt_mean": tokens.prompt_mean + more, "prompt_p95": tokens.prompt_p95 + more, "prompt_max": tokens.prompt_max + 2 * more}
    return tokens.model_copy(update=longer)


def more_capacity(inputs: PlanInputs) -> Reason:
    """R1: more weights help only where the smaller adapter could not hold what is to be learned; the climb looks at that."""
    rank_before = rank(inputs)[0]
    text = f"rank {RANKS[-1]} after rank {rank_before}: tried only where the smaller adapter does not know its rows by heart"
    return Reason(rule="R1", text=text, source=_TML)


def longest_prompt(inputs: PlanInputs) -> int:
    """Tokens of the longest prompt without demonstrations; a prompt that classifies lists its labels too."""
    listed = inputs.tokens.label_list if inputs.objective.task.kind is TaskKind.CLASSIFY else 0
    return inputs.tokens.prompt_max + listed
