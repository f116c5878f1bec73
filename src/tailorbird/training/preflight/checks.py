"""All checks of a job, the cheap ones first."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tailorbird.domain.errors import InvalidInput, Unavailable
from tailorbird.domain.preflight import Examination, PreflightFinding, PreflightSeverity, ShownToken
from tailorbird.ports.trainer import TrainingJob
from tailorbird.training.batches import Batches
from tailorbird.training.preflight.context import PreflightContext, blocking, read_subject
from tailorbird.training.preflight.gradient_check import additive, gradient_error
from tailorbird.training.preflight.job_validation import check_job
from tailorbird.training.preflight.memory_check import fits
from tailorbird.training.preflight.row_checks import beginning, control_tokens, end_of_turn, labels, mask, servable, truncation
from tailorbird.training.preflight.template_checks import templates
from tailorbird.training.tokenization import RowTokenizer, TokenizedRow

#: Checks that need no weights.
_CHECKS: tuple[Callable[[PreflightContext], list[PreflightFinding]], ...] = (
    mask,
    truncation,
    end_of_turn,
    beginning,
    control_tokens,
    labels,
    templates,
    servable,
)
_ORDER = (PreflightSeverity.BLOCKING, PreflightSeverity.WARNING, PreflightSeverity.NOTE)


def examine(job: TrainingJob) -> Examination:
    """Everything that can be known about ``job`` before it runs. What the job's own checks raise becomes a blocking finding."""
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
    return Examination(findings=_worst_first(found), first_batch=_first_batch(subject), measured=measured)


def _weighed(subject: PreflightContext) -> tuple[list[PreflightFinding], dict[str, float]]:
    """The checks that read weights."""
    try:
        found, measured = fits(subject)
        error = gradient_error(subject)
    except (InvalidInput, Unavailable) as refused:
        return [blocking(refused.error_code, refused.message, refused.hint)], {}
    return found + additive(error), measured | {"gradient_error": error}


def _counts(subject: PreflightContext) -> dict[str, float]:
    rows = subject.rows
    return {
        "rows": len(rows),
        "tokens": sum(len(row.ids) for row in rows),
        "loss_tokens": sum(row.learned for row in rows),
        "longest_row": max(len(row.ids) for row in rows),
    }


def _worst_first(found: Iterable[PreflightFinding]) -> tuple[PreflightFinding, ...]:
    return tuple(sorted(found, key=lambda finding: _ORDER.index(finding.severity)))


def _first_batch(subject: PreflightContext) -> tuple[tuple[ShownToken, ...], ...]:
    parts = Batches(subject.train, subject.job.settings).at(0)
    return tuple(_shown(subject.encoder, row) for part in parts for row in part)


def _shown(encoder: RowTokenizer, row: TokenizedRow) -> tuple[ShownToken, ...]:
    texts = [encoder.tokenizer.decode([token]) for token in row.ids]
    learned = {place for start, end in row.spans for place in range(start, end)}
    return tuple(ShownToken(text=text, learned=place in learned) for place, text in enumerate(texts))
