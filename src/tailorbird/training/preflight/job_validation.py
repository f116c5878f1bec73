"""Refusals: what would go wrong in a run, raised before it starts."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tailorbird.domain.errors import InvalidInput, ModelInvalid
from tailorbird.ports.trainer import TrainingJob
from tailorbird.training.network import Network
from tailorbird.training.packing import pack
from tailorbird.training.tokenization import TokenizedRow

#: How far packed and plain losses may lie apart, relative to 1 + loss: rounding, not a different computation.
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2}


def check_job(job: TrainingJob) -> None:
    """Raises InvalidInput when there is nothing to learn or to measure on."""
    if not job.train:
        raise InvalidInput("there are no training rows", "give at least one row of the train split", code="no_train_rows")
    if not job.held_out:
        raise InvalidInput(
            "there are no held-out rows, so no checkpoint could be called the best",
            "keep some training rows out of training",
            code="no_held_out_rows",
        )


def check_lengths(rows: Sequence[TokenizedRow], limit: int) -> None:
    """Refuses rows above ``limit`` tokens: cutting one would teach the model a wrong answer. Raises InvalidInput ``example_too_long``."""
    long = [len(row.ids) for row in rows if len(row.ids) > limit]
    if long:
        raise InvalidInput(
            f"{len(long)} of {len(rows)} examples are longer than {limit} tokens; the longest has {max(long)}",
            f"raise max_length to {max(long)} if the model's context allows, shorten the prompt, or leave those rows out",
            code="example_too_long",
        )


@torch.no_grad()
def check_packing(network: Network, rows: Sequence[TokenizedRow]) -> None:
    """Compares the second of two packed rows, which could see the first, with the model's own forward pass of it alone.

    Raises ModelInvalid where the architecture does not bear packing.
    """
    shortest = sorted(rows, key=lambda row: len(row.ids))[:2]
    both = pack(shortest, network.dtype, network.device)
    packed = float(network.answer_losses(both)[both.owners_A == len(shortest) - 1].sum())
    plain = network.plain_loss_sum(shortest[-1])
    if abs(packed - plain) > _TOLERANCE[network.dtype] * (1 + plain):
        raise ModelInvalid(
            f"rows computed together and one by one differ ({packed:.4f} and {plain:.4f} nats)",
            "use a decoder of the Llama kind (full causal attention, a plain output head)",
            code="model_unsupported",
        )
