"""How many weights a model and an adapter have, and how many tokens a training set has."""

from __future__ import annotations

import math

from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.plan import LoraSettings, TokenProfile

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
    return base.layers * sum(sum(base.linear_shapes.get(name, ())) for name in targets)


def adapter_parameters(base: BaseModelRef, adapter: LoraSettings) -> int:
    """Weights of an adapter."""
    return adapter.rank * parameters_per_rank(base, adapter.targets)


def backbone_parameters(base: BaseModelRef) -> int:
    """Weights that every token is multiplied with: linear layers, without embeddings, head and norms."""
    return base.layers * sum(inputs * outputs for inputs, outputs in base.linear_shapes.values())


def suffix_tokens(tokens: TokenProfile) -> float:
    """Mean tokens of a rendered prompt behind the prefix that all share."""
    return max(1.0, tokens.prompt_mean - tokens.shared_prefix)
