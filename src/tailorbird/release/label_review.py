"""Label review: blind sheets in each reviewer's own order, and what the judgements prove."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from tailorbird.chat.conversations import shown_answer
from tailorbird.crypto.canonical_json import digest_of, short
from tailorbird.domain.errors import Forbidden, InvalidInput
from tailorbird.domain.evidence import ItemResult, Verdict
from tailorbird.domain.label_review import (
    Bounded,
    Judgement,
    Mark,
    ReviewerRecord,
    ReviewItem,
    ReviewResult,
    ReviewSheet,
)
from tailorbird.domain.objective import Objective, RiskTier
from tailorbird.domain.release import Release
from tailorbird.domain.value import Digest
from tailorbird.stats.agreement import Ratings, krippendorff_alpha, over_items
from tailorbird.stats.intervals import Floats, bootstrap_bca, wilson
from tailorbird.stats.label_sums import shares
from tailorbird.stats.paired_tests import mcnemar_exact


def win_rate(scores: Sequence[tuple[str, float]], confidence: float, seed: int) -> Bounded:
    """Win rate: mean of ``scores``, each with its item's name. The interval resamples whole items.

    Where all scores are one, no draw differs: then the bound is that of Wilson's interval for the share of items that might have another.
    """
    if not scores:
        return Bounded(value=None)
    groups, values = [name for name, _ in scores], [value for _, value in scores]

    def mean(weights_BN: Floats) -> Floats:
        return shares((weights_BN * np.array(values)).sum(axis=1), weights_BN.sum(axis=1))

    if len(set(values)) == 1:
        others = wilson(0, len(set(groups)), confidence)[1]
        return Bounded(value=values[0], low=values[0] * (1 - others), high=values[0] + others * (1 - values[0]))
    low, high = bootstrap_bca(mean, groups, confidence, seed, resamples=1000)
    return Bounded(value=sum(values) / len(values), low=low, high=high)


#: Reviewers that a tier asks for (DESIGN: limited looks at sampled disagreements, high is blind and by two).
REVIEWERS: dict[RiskTier, int] = {RiskTier.MINIMAL: 0, RiskTier.LIMITED: 1, RiskTier.HIGH: 2}
#: Items on a sheet at most, and how many of them are shown a second time.
_MOST, _REPEATS = 40, 5
#: How one-sided somebody must be to be flagged: chance of it if the sides meant nothing, and judgements it takes to tell.
_CHANCE, _FEWEST = 0.001, 10


@dataclass(frozen=True)
class Disagreement:
    """Two candidates' results on the items of a split. ``unlike`` are the items on which they differ in the metric by which they are
    compared."""

    candidate: Sequence[ItemResult]
    other: Sequence[ItemResult]
    split: str
    unlike: frozenset[Digest]


def draw_sheet(objective: Objective, snapshot: Digest, against: str, between: Disagreement) -> ReviewSheet | None:
    """The items on which the two answer differently, at most ``_MOST`` of them, some twice: first those on which they differ in the
    metric, too, drawn at random; then the others. None where the tier asks nobody, or where no answer differs."""
    wanted = 0 if objective.excepts("label_review") else REVIEWERS[objective.business.risk]
    answers = {item.item: item.prediction for item in between.other}
    differing = [item for item in between.candidate if item.item in answers and answers[item.item] != item.prediction]
    if not wanted or not differing:
        return None
    random = Random(f"{objective.seed} review {snapshot}")
    shuffled = random.sample(sorted(differing, key=lambda item: item.item), len(differing))
    drawn = sorted(shuffled, key=lambda item: item.item not in between.unlike)[:_MOST]
    items = [
        ReviewItem(number=number, item=item.item, candidate=shown_answer(item.prediction), other=shown_answer(answers[item.item]))
        for number, item in enumerate(drawn, 1)
    ]
    again = [
        item.model_copy(update={"number": len(items) + place, "repeat_of": item.number})
        for place, item in enumerate(random.sample(items, min(_REPEATS, len(items) // 4)), 1)
    ]
    return ReviewSheet(
        tenant=objective.tenant,
        objective_name=objective.name,
        snapshot=snapshot,
        split=between.split,
        against=against,
        reviewers=wanted,
        items=(*items, *again),
    )


def candidate_side(sheet: ReviewSheet, reviewer: str, item: ReviewItem) -> str:
    """Side on which the candidate's answer is shown to this reviewer: random, and swapped when an item is shown again."""
    first = item.repeat_of or item.number
    flips = hashlib.sha256(f"{sheet.stands_for or digest_of(sheet)} {reviewer} {first}".encode()).digest()[0] & 1
    return "left" if bool(flips) != (item.repeat_of is not None) else "right"


def next_item(sheet: ReviewSheet, reviewer: str, judged: Iterable[Judgement]) -> ReviewItem | None:
    """The next item for this reviewer, in an order of their own; items that are shown again come last. None when all are judged, those
    aside whose answers were erased."""
    done = {judgement.number for judgement in judged if judgement.reviewer == reviewer}
    order = sorted(
        sheet.open,
        key=lambda item: (item.repeat_of is not None, hashlib.sha256(f"{reviewer} {item.number} {item.item}".encode()).digest()),
    )
    return next((item for item in order if item.number not in done), None)


def check_may_review(release: Release, reviewer: str, public_key: str) -> None:
    """Raises Forbidden (``own_release``) for the author, or whoever holds the author's key."""
    if reviewer == release.content.author or public_key == release.signature.public_key:
        raise Forbidden(
            f"{reviewer} made release {short(release.digest)} and cannot review its answers",
            "ask somebody else who may review",
            code="own_release",
        )


def check_mark(mark: Mark, reason: str) -> None:
    """Raises InvalidInput for an item skipped without a reason."""
    if mark is Mark.SKIP and not reason.strip():
        raise InvalidInput("an item was skipped without a reason", "say in a few words why it cannot be judged")


def review_result(
    sheet: ReviewSheet,
    judgements: Sequence[Judgement],
    confidence: float,
    seed: int,
    *,
    errors_alone: bool = False,
) -> ReviewResult:
    """What the judgements add up to. It passes when enough people have judged every item and the candidate's answers are not proven to be
    the worse ones: the upper end of the win rate reaches a half. With ``errors_alone`` every item is one that was counted as an error,
    and their count stands in the evidence: what people prefer informs those who decide, and fails nothing; but it passes only
    once each item has marks by enough people, for whoever skips one has not judged it. Who is flagged does not count. A mark on an item
    whose answers were erased since stands; nobody is asked for another."""
    by: defaultdict[str, dict[int, Judgement]] = defaultdict(dict)
    for judgement in judgements:
        by[judgement.reviewer][judgement.number] = judgement
    records = tuple(_record(sheet, name, given) for name, given in sorted(by.items()))
    counting = [record.reviewer for record in records if not record.flagged]
    complete = [name for name in counting if by[name].keys() >= {item.number for item in sheet.open}]
    first = [item for item in sheet.items if item.repeat_of is None]
    ratings = [[_outcome(by[name].get(item.number)) for name in counting] for item in first]
    alpha = krippendorff_alpha(ratings) if ratings else None
    ends = (over_items(krippendorff_alpha, ratings, confidence, seed) if alpha is not None else None) or (None, None)
    missing = max(0, sheet.reviewers - len(complete))
    rate = _win_rate(first, {name: by[name] for name in counting}, confidence, seed)
    verdict, reason = _verdict(sheet, missing, rate)
    if errors_alone and not missing and rate.value is not None:
        unjudged = _unjudged(sheet, first, ratings)
        if unjudged:
            few = f"{unjudged} of the items {'was' if unjudged == 1 else 'were'} skipped and judged by fewer than {sheet.reviewers} people"
            verdict, reason = Verdict.INCONCLUSIVE, f"{few}: somebody else who may review has to judge what was skipped"
        else:
            sides = f"they side with the candidate in {rate.value:.0%} of them [{rate.low:.0%}, {rate.high:.0%}]"
            verdict, reason = (
                Verdict.PASS,
                f"people have judged what was counted as errors on {sheet.split}, whose count stands in the evidence: {sides}",
            )
    return ReviewResult(
        asked=len(sheet.open),
        missing=missing,
        reviewers=records,
        win_rate=rate,
        agreement=Bounded(value=alpha, low=ends[0], high=ends[1]),
        verdict=verdict,
        reason=reason,
    )


def _outcome(judgement: Judgement | None) -> float | None:
    return None if judgement is None else judgement.score


def _record(sheet: ReviewSheet, name: str, given: Mapping[int, Judgement]) -> ReviewerRecord:
    marks = [judgement.mark for judgement in given.values()]
    left, right = marks.count(Mark.LEFT), marks.count(Mark.RIGHT)
    pairs = [(given.get(item.number), given.get(item.repeat_of)) for item in sheet.items if item.repeat_of is not None]
    twice = [(one, other) for one, other in pairs if one is not None and other is not None]
    told = [one.score == other.score for one, other in twice if one.score is not None and other.score is not None]
    return ReviewerRecord(
        reviewer=name,
        judged=len(marks),
        skipped=marks.count(Mark.SKIP),
        left_share=left / (left + right) if left + right else None,
        consistency=sum(told) / len(told) if told else None,
        flagged=_flag(left, right, marks),
    )


def _flag(left: int, right: int, marks: Sequence[Mark]) -> str:
    """Why somebody's judgements say nothing: the side decided, which is drawn by lot for each of them; or nearly all was skipped."""
    if left + right >= _FEWEST and mcnemar_exact(left, right) < _CHANCE:
        side, count = ("left", left) if left > right else ("right", right)
        return f"chose {side} in {count} of {left + right} items, whose sides were drawn by lot"
    if len(marks) >= _FEWEST and marks.count(Mark.SKIP) > len(marks) / 2:
        return f"skipped {marks.count(Mark.SKIP)} of {len(marks)} items"
    return ""


def _win_rate(items: Sequence[ReviewItem], by: Mapping[str, Mapping[int, Judgement]], confidence: float, seed: int) -> Bounded:
    given = [(str(item.number), _outcome(marks.get(item.number))) for marks in by.values() for item in items]
    return win_rate([(item, score) for item, score in given if score is not None], confidence, seed)


def _unjudged(sheet: ReviewSheet, items: Sequence[ReviewItem], ratings: Ratings) -> int:
    """How many items, whose answers are there, fewer people have judged than the tier asks for: a skip is no judgement."""
    marked = {item.number: sum(score is not None for score in scores) for item, scores in zip(items, ratings, strict=True)}
    return sum(item.repeat_of is None and marked[item.number] < sheet.reviewers for item in sheet.open)


def _verdict(sheet: ReviewSheet, missing: int, rate: Bounded) -> tuple[Verdict, str]:
    if not sheet.open and rate.value is None:
        return Verdict.INCONCLUSIVE, "the answers of every item were erased before anybody judged them: adapt again"
    if missing:
        people = "1 reviewer" if missing == 1 else f"{missing} reviewers"
        return Verdict.INCONCLUSIVE, f"{people} still to judge all {len(sheet.open)} items"
    if rate.value is None or rate.high is None:
        return Verdict.INCONCLUSIVE, "every item was skipped: nobody has judged an answer"
    told = f"preferred to those of {sheet.against} in {rate.value:.0%} of the items on which they differ"
    if rate.high < 0.5:
        return Verdict.FAIL, f"people find the candidate's answers worse: {told} (at most {rate.high:.0%})"
    return Verdict.PASS, f"people do not find the candidate's answers worse: {told} [{rate.low:.0%}, {rate.high:.0%}]"
