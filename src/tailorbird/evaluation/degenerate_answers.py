"""Degenerate answers: one answer for everything, answers without a label, labels that are never given, nothing ever wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tailorbird.domain.evidence import ItemResult
from tailorbird.domain.objective import TaskKind
from tailorbird.evaluation.measure_spec import MeasureSpec
from tailorbird.evaluation.ranking import relevance_of
from tailorbird.text.label_sets import NONE, split

#: An answer is given to nearly everything where all others together are this many times rarer than among the targets.
_RARER = 5
#: Labels that are named; more are counted.
_NAMED = 5
#: So many items, all right, are too good not to be looked at.
_PERFECT = 30


def degenerate_answer_remarks(items: Sequence[ItemResult], spec: MeasureSpec) -> tuple[str, ...]:
    """Remarks on the answers as a whole: (nearly) all are the same, some name no label, labels that occur are never
    given, or all are right."""
    told = [_one_for_all(items, spec), _all_right(items)]
    if spec.task is TaskKind.CLASSIFY:
        told += [_unnamed(items), _never_given(items, spec)]
    return tuple(sentence for sentence in told if sentence)


def _one_for_all(items: Sequence[ItemResult], spec: MeasureSpec) -> str:
    answer, count = Counter(item.prediction for item in items).most_common(1)[0]
    if spec.task is TaskKind.CLASSIFY and not answer:
        return ""
    others = len(items) - count
    wanted = len(items) - _most_wanted(items, spec)
    if not wanted or others * _RARER > wanted:
        return ""
    of = f"all {len(items):,}" if not others else f"{count:,} of {len(items):,}"
    right = sum(item.correct for item in items if item.prediction == answer)
    return f"{_what(answer, spec)} {of} items, which is right for {right:,}"


def _unnamed(items: Sequence[ItemResult]) -> str:
    """Answers that somebody else's model wrote, and in which no label can be read, or several can."""
    count = sum(not item.prediction for item in items)
    return f"writes {count:,} of {len(items):,} answers in which no label can be read, or more than one" if count else ""


def _all_right(items: Sequence[ItemResult]) -> str:
    if len(items) < _PERFECT or not all(item.correct for item in items):
        return ""
    return (
        f"is right about all {len(items):,} items, which may be a leak: look whether a column of the text gives the answer away, and "
        "whether rows of train say the same in other words"
    )


def _most_wanted(items: Sequence[ItemResult], spec: MeasureSpec) -> int:
    """How many items one answer could be right for at most."""
    if spec.task is TaskKind.RANK:
        return max(Counter(name for item in items for name in relevance_of(item.target)).values(), default=0)
    return Counter(item.target for item in items).most_common(1)[0][1]


def _what(answer: str, spec: MeasureSpec) -> str:
    if spec.task is TaskKind.GENERATE:
        return "writes the same text for"
    if spec.task is TaskKind.RANK:
        return "puts the same document first for" if answer else "finds no document for"
    return "gives no label to" if spec.many and answer == NONE else f"answers {answer!r} to"


def _never_given(items: Sequence[ItemResult], spec: MeasureSpec) -> str:
    """Labels that items bear and no item is given, the most frequent first."""
    parts = split if spec.many else _alone
    borne = Counter(label for item in items for label in parts(item.target))
    given = {label for item in items for label in parts(item.prediction)}
    missing = [(label, count) for label, count in sorted(borne.items(), key=lambda each: (-each[1], each[0])) if label not in given]
    if not missing:
        return ""
    named = ", ".join(f"{label!r} ({count:,} {'item' if count == 1 else 'items'})" for label, count in missing[:_NAMED])
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    return f"never gives {len(missing)} of the {len(borne)} labels that occur: {named}{more}"


def _alone(label: str) -> tuple[str, ...]:
    return (label,)
