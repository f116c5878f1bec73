"""All preflight checks of a job, the cheap ones first, and the validation that refuses a job outright."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from transformers import AutoConfig

from tailorbird.domain.errors import InvalidInput, ModelInvalid, Unavailable
from tailorbird.domain.preflight import Examination, PreflightFinding, PreflightSeverity, ShownToken
from tailorbird.ports.trainer import TrainingJob
from tailorbird.training.architecture import window_of
from tailorbird.training.batches import Batches, RowLayout
from tailorbird.training.forward_proof import proof_of
from tailorbird.training.network import Network, layout_within
from tailorbird.training.preflight.context import PreflightContext, blocking, read_subject
from tailorbird.training.preflight.gradient_check import additive, gradient_error
from tailorbird.training.preflight.memory_check import fits
from tailorbird.training.preflight.row_checks import (
    beginning,
    control_tokens,
    end_of_turn,
    labels,
    mask,
    reasoning,
    servable,
    truncation,
)
from tailorbird.training.preflight.template_checks import templates
from tailorbird.training.tokenization import RowTokenizer, TokenizedRow

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
    """Compares the second of two packed rows, which could see the first, with the model's own forward pass of it alone; where rows are
    computed one at a time, the first.

    Raises ModelInvalid where the architecture does not bear packing.
    """
    shortest = sorted(rows, key=lambda row: len(row.ids))[: 1 if network.layout is RowLayout.SINGLE else 2]
    both = network.pack(shortest)
    packed = float(network.answer_losses(both)[both.owners_A == len(shortest) - 1].sum())
    plain = network.plain_loss_sum(shortest[-1])
    if abs(packed - plain) > _TOLERANCE[network.dtype] * (1 + plain):
        raise ModelInvalid(
            f"rows computed together and one by one differ ({packed:.4f} and {plain:.4f} nats)",
            "use another base model: rows of this one see one another, although its architecture passed the test on small weights",
            code="model_unsupported",
        )


#: Checks that need no weights.
_CHECKS: tuple[Callable[[PreflightContext], list[PreflightFinding]], ...] = (
    mask,
    truncation,
    end_of_turn,
    beginning,
    control_tokens,
    reasoning,
    labels,
    templates,
    servable,
)
_ORDER = (PreflightSeverity.BLOCKING, PreflightSeverity.WARNING, PreflightSeverity.NOTE)


def examine(job: TrainingJob) -> Examination:
    """Findings of all checks of ``job``. What the job's own validation raises becomes a blocking finding."""
    try:
        check_job(job)
        subject = read_subject(job)
    except InvalidInput as error:
        return Examination(findings=(blocking(error.error_code, error.message, error.hint),))
    found = [finding for check in _CHECKS for finding in check(subject)]
    measured = _counts(subject)
    if not any(finding.severity is PreflightSeverity.BLOCKING for finding in found):
        of_weights, numbers = _weighed(subject)
        found, measured = found + of_weights, measured | numbers
    worst_first = tuple(sorted(found, key=lambda finding: _ORDER.index(finding.severity)))
    return Examination(findings=worst_first, first_batch=_first_batch(subject), measured=measured)


def _weighed(subject: PreflightContext) -> tuple[list[PreflightFinding], dict[str, float]]:
    """The checks that read weights."""
    try:
        found, measured = fits(subject)
        error = gradient_error(subject)
    except (InvalidInput, Unavailable) as refused:
        return [blocking(refused.error_code, refused.message, refused.hint)], {}
    found += _packing(subject)
    return found + additive(error), measured | {"gradient_error": error}


def _packing(subject: PreflightContext) -> list[PreflightFinding]:
    """A note where the architecture does not bear packing, or not of rows this long."""
    config = AutoConfig.from_pretrained(subject.job.base, local_files_only=True, trust_remote_code=False)
    proven = proof_of(config).layout
    layout = layout_within(config, proven, subject.rows)
    if layout is RowLayout.TREE:
        return []
    how = "padded to one length" if layout is RowLayout.PADDED else "computed one at a time"
    why = "packed, its first layers at random weights gave other gradients"
    if layout is not proven:
        longest = max(len(row.ids) for row in subject.rows)
        why = f"the longest has {longest} tokens, and beyond {window_of(config)} tokens rows computed together would differ"
    what = f"rows of this architecture ({config.model_type}) are {how}: {why}"
    remedy = "nothing to do: what is learned is the same; a shared prompt is computed again for each row"
    return [PreflightFinding(code="rows_not_packed", severity=PreflightSeverity.NOTE, what=what, remedy=remedy)]


def _counts(subject: PreflightContext) -> dict[str, float]:
    rows = subject.rows
    return {
        "rows": len(rows),
        "tokens": sum(len(row.ids) for row in rows),
        "loss_tokens": sum(row.learned for row in rows),
        "longest_row": max(len(row.ids) for row in rows),
    }


def _first_batch(subject: PreflightContext) -> tuple[tuple[ShownToken, ...], ...]:
    parts = Batches(subject.train, subject.job.settings).at(0)
    return tuple(_shown(subject.encoder, row) for part in parts for row in part)


def _shown(encoder: RowTokenizer, row: TokenizedRow) -> tuple[ShownToken, ...]:
    texts = [encoder.tokenizer.decode([token], skip_special_tokens=False) for token in row.ids]
    learned = {place for start, end in row.spans for place in range(start, end)}
    return tuple(
        ShownToken(text=text, learned=place in learned, id=token, control=encoder.is_control(token))
        for place, (token, text) in enumerate(zip(row.ids, texts, strict=True))
    )
