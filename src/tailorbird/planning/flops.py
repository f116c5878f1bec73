"""Parameter, token and FLOP counts of a rung.

FLOPs a token: full 6 N + 6 V h f, LoRA 4 N + 6 P + 4 V h f, a forward pass 2 N, with N the weights of the linear layers, P those of the
adapter, V h the head, f the share of tokens that bear loss; attention adds 4 h L a (query, key) pair forward and twice that backward
(Kaplan 2020, arXiv 2001.08361; the LoRA count after Schulman et al. 2025).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.plan import LoraSettings, TokenProfile, TrainingSettings
from tailorbird.planning.inputs import TrainingWork

#: Share of the training rows that is held out to choose the best checkpoint, and the most of them.
HELD_OUT, MOST_HELD_OUT = 0.10, 400


def held_out_rows(rows: int) -> int:
    """Of ``rows`` to train on, those that are held out to choose the best checkpoint."""
    return max(1, math.ceil(min(rows * HELD_OUT, MOST_HELD_OUT)))


def steps_per_pass(rows: int, batch: int) -> int:
    """Optimiser steps of one pass over ``rows``, less those held out."""
    return max(1, math.ceil((rows - held_out_rows(rows)) / batch))


def parameters_per_rank(base: BaseModelRef, targets: tuple[str, ...]) -> int:
    """Adapter weights that one rank adds: inputs + outputs of every adapted layer. A layer that the base lacks adds none."""
    return sum(group.count * (group.inputs + group.outputs) for group in base.linear_groups if group.name in targets)


def adapter_parameters(base: BaseModelRef, adapter: LoraSettings) -> int:
    """Weights of an adapter."""
    return adapter.rank * parameters_per_rank(base, adapter.targets)


def backbone_parameters(base: BaseModelRef) -> int:
    """Weights that every token is multiplied with: linear layers and the experts that it meets, without embeddings, head and norms; all but
    the embeddings where layers are not known one by one."""
    if not base.linear_groups:
        return max(0, base.parameters - base.vocabulary * base.hidden)
    experts = base.anatomy.experts if base.anatomy else None
    met = experts.parameters * experts.active // experts.experts if experts else 0
    return linear_parameters(base) + met


def linear_parameters(base: BaseModelRef) -> int:
    """Weights of the linear layers of all blocks: what a quantised base holds in 4 bits."""
    return sum(group.count * group.inputs * group.outputs for group in base.linear_groups)


def suffix_tokens(tokens: TokenProfile) -> float:
    """Mean tokens of a rendered prompt behind the prefix that all share."""
    return max(1.0, tokens.prompt_mean - tokens.shared_prefix)


@dataclass(frozen=True)
class FlopsWork:
    """``tokens``, (query, key) ``pairs`` of attention, and ``answers``, the tokens that meet the head."""

    tokens: float
    pairs: float
    answers: float


def work_of(rows: float, own: float, prefix: float, passes: float, answers: float) -> FlopsWork:
    """``rows`` of ``own`` tokens each behind a prefix that is computed once in each of ``passes``; each row has ``answers`` answer tokens.

    A token attends to the prefix and to the earlier tokens of its own row.
    """
    pairs = passes * prefix * (prefix + 1) / 2 + rows * (own * prefix + own * (own + 1) / 2)
    return FlopsWork(tokens=passes * prefix + rows * own, pairs=pairs, answers=rows * answers)


def prefix_of(tokens: TokenProfile) -> int:
    """Tokens that a training pass computes once for all of its rows: none where each row has its own."""
    return tokens.shared_prefix if tokens.layout == "packed" else 0


def own_tokens(inputs: TrainingWork) -> float:
    """Mean tokens of a row behind what is computed once for all."""
    tokens = inputs.tokens
    return (suffix_tokens(tokens) if tokens.layout == "packed" else tokens.prompt_mean) + tokens.target_mean


def laid_out_tokens(inputs: TrainingWork, rows: float, passes: int) -> float:
    """Mean tokens that a row takes in ``passes`` of ``rows``: where rows are padded, those of the longest of its pass, which lies about
    √(2 ln n) · sd above the mean of n rows, and as much less as rows are sorted into more passes."""
    tokens, own = inputs.tokens, own_tokens(inputs)
    if tokens.layout != "padded" or rows < 2:
        return own
    return min(own + tokens.row_sd * math.sqrt(2 * math.log(rows)) / passes, max(own, tokens.prompt_max + tokens.target_max))


def passes_of(inputs: TrainingWork, settings: TrainingSettings, rows: float) -> int:
    """Passes that ``rows`` mean rows take. A pass is closed before the row that would not fit, so half a row of room is lost."""
    if inputs.tokens.layout == "single":
        return max(1, math.ceil(rows))
    own = own_tokens(inputs)
    room = max(own, settings.token_budget - prefix_of(inputs.tokens) - own / 2)
    return max(1, math.ceil(rows * own / room))


def batch_of(inputs: TrainingWork, settings: TrainingSettings) -> FlopsWork:
    """One step's batch of mean rows, as they are laid out."""
    return _laid_out(inputs, settings, settings.batch_size)


def held_out_of(inputs: TrainingWork, settings: TrainingSettings) -> FlopsWork:
    """One look at the held-out rows."""
    return _laid_out(inputs, settings, held_out_rows(inputs.train_rows))


def _laid_out(inputs: TrainingWork, settings: TrainingSettings, rows: int) -> FlopsWork:
    passes = passes_of(inputs, settings, rows)
    return work_of(rows, laid_out_tokens(inputs, rows, passes), prefix_of(inputs.tokens), passes, inputs.tokens.learned_mean)


def steps_of(inputs: TrainingWork, settings: TrainingSettings) -> int:
    """Optimiser steps of the whole run."""
    return settings.epochs * steps_per_pass(inputs.train_rows, settings.batch_size)


def looks_of(settings: TrainingSettings) -> int:
    """Times that the held-out loss is measured: before the first step, and through each epoch."""
    return 1 + settings.epochs * settings.evaluations_per_epoch


def training_flops(inputs: TrainingWork, settings: TrainingSettings) -> float:
    """FLOPs of all optimiser steps and of the held-out evaluations between them."""
    learned = steps_of(inputs, settings) * step_flops(inputs, settings.lora, batch_of(inputs, settings))
    return learned + looks_of(settings) * forward_flops(inputs, held_out_of(inputs, settings))


def step_flops(inputs: TrainingWork, adapter: LoraSettings | None, work: FlopsWork) -> float:
    """FLOPs forward and backward."""
    base, backbone = inputs.base, backbone_parameters(inputs.base)
    head, attention = base.vocabulary * base.hidden * work.answers, 12 * base.hidden * base.layers * work.pairs
    if adapter is None:
        return 6 * backbone * work.tokens + 6 * head + attention
    return (4 * backbone + 6 * adapter_parameters(base, adapter)) * work.tokens + 4 * head + attention


def forward_flops(inputs: TrainingWork, work: FlopsWork) -> float:
    """FLOPs of a forward pass."""
    base = inputs.base
    head, attention = base.vocabulary * base.hidden * work.answers, 4 * base.hidden * base.layers * work.pairs
    return 2 * backbone_parameters(base) * work.tokens + 2 * head + attention
