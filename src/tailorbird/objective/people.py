"""High risk demands people: some answers are left to them, and some are judged by them before a release.

In: an objective and its lines. Out: faults. Must not know: data, releases.

An answer that does harm when it is wrong must be held back where the model is not sure of it. That needs one probability an answer
(``referral``), which only ``kind: classify, labels: one`` has. Where a task has none, nothing holds an answer back: that is an exception,
and somebody takes it by name. Label review needs answers that people can read side by side; an order of documents is none.
"""

from __future__ import annotations

from tailorbird.domain.objective import RiskTier
from tailorbird.objective.catalogue import Answers, answers_of
from tailorbird.objective.faults import Fault
from tailorbird.objective.file import ObjectiveFile

_EXCEPT = 'exceptions: [{{rule: {rule}, by: NAME, because: "..."}}]'


def people_faults(file: ObjectiveFile) -> list[Fault]:
    """What the tier ``high`` demands and the objective lacks; exceptions that are none."""
    return [*_demanded(file), *_needless(file)]


def _demanded(file: ObjectiveFile) -> list[Fault]:
    objective, line = file.objective, file.line_of("business.risk")
    if objective.business.risk is not RiskTier.HIGH:
        return []
    answers, faults = answers_of(objective.task), list[Fault]()
    if objective.referral is None and not objective.excepts("referral"):
        named = _EXCEPT.format(rule="referral")
        if answers is Answers.LABEL:
            what = "the tier high demands that answers which are not sure enough are left to people"
            faults.append(Fault(line, what, f"add `referral: {{max_error: 0.05}}`, or name who decided otherwise: `{named}`"))
        else:
            what = f"the tier high demands that unsure answers are left to people, which a task of {answers.value} cannot tell"
            faults.append(Fault(line, what, f"name who decided to go without, and what stands in its place: `{named}`"))
    if answers is Answers.RANKING and not objective.excepts("label_review"):
        what = "the tier high demands that people judge answers before a release, and an order of documents cannot be shown to them"
        faults.append(Fault(line, what, f"name who decided to go without: `{_EXCEPT.format(rule='label_review')}`"))
    return faults


def _needless(file: ObjectiveFile) -> list[Fault]:
    objective, faults = file.objective, list[Fault]()
    for index, exception in enumerate(objective.exceptions):
        line = file.line_of(f"exceptions.{index}")
        if objective.business.risk is not RiskTier.HIGH:
            what = f"an exception from {exception.rule}, which only the tier high demands"
            faults.append(Fault(line, what, "remove it, or set `business.risk: high`"))
        elif exception.rule == "referral" and objective.referral is not None:
            faults.append(Fault(line, "an exception from referral, and `referral` is set", "keep one of the two"))
        elif exception.rule in [other.rule for other in objective.exceptions[:index]]:
            faults.append(Fault(line, f"the exception from {exception.rule} is named twice", "keep one of the two"))
    return faults
