"""Checks of the labels as the engine scores them: each is its tokens and the end of turn.

In: a subject. Out: findings. Must not know: rows, weights.

A label whose tokens begin another one is no fault: a score is that of the whole answer, the end of turn included, which only one of the two
has there.
"""

from __future__ import annotations

from collections import defaultdict

from tailorbird.domain.examination import Finding
from tailorbird.training.preflight.subject import Subject, blocking


def labels(subject: Subject) -> list[Finding]:
    """Labels that are no tokens, and labels that are the same ones: no score could tell them apart."""
    answers = subject.job.prompt.answers
    by_tokens: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for answer, ids in zip(answers, subject.encoder.answers(answers), strict=True):
        by_tokens[tuple(ids)].append(answer)
    found = [_empty(by_tokens[()])] if () in by_tokens else []
    return found + [_alike(names) for ids, names in sorted(by_tokens.items()) if ids and len(names) > 1]


def _empty(names: list[str]) -> Finding:
    what = f"{_listed(names)} has no tokens: nothing of it could be learned or scored"
    return blocking("label_empty", what, "give the label a name that is more than white space")


def _alike(names: list[str]) -> Finding:
    what = f"the labels {_listed(names)} have the same tokens: no score could tell them apart"
    return blocking("labels_collide", what, "rename all but one of them, or make them one label")


def _listed(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
