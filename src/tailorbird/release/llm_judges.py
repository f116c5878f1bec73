"""LLM judges: prompts for a review sheet, agreement with people, and the verdict that a judge can take back.

A judge takes people's place nowhere. Its marks are none of theirs; it counts only where it was measured to agree with them, and then it can
only turn a pass into a fail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tailorbird.crypto.canonical_json import short
from tailorbird.domain.errors import Conflict, Forbidden, InvalidInput
from tailorbird.domain.evidence import Verdict
from tailorbird.domain.label_review import Bounded, JudgeResult, JudgeState, ModelReview, PairMark, ReviewItem, ReviewSheet
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message
from tailorbird.domain.release import Release
from tailorbird.domain.value import Digest
from tailorbird.stats.agreement import cohen_floor, cohen_kappa, over_items
from tailorbird.stats.intervals import Floats, bootstrap_bca, spend, wilson
from tailorbird.stats.label_sums import shares

#: Pairs that people and judge must both have marked before a kappa is told.
FEWEST_COMMON = 20
#: Judges that a release may have at most.
MOST_JUDGES = 8
#: What a judge answers with: one letter for each place.
LETTERS = ("A", "B")
#: Tokens that the letter and the end of the answer take.
_ROOM = 4

_PROMPT = """Two answers to the same task are below. Decide which one is better.

Task: {instruction}

Text: {text}

Answer A: {first}

Answer B: {second}

Which answer is better? Reply with A or B alone."""


@dataclass(frozen=True)
class JudgedPair:
    """Sheet item with its text."""

    item: ReviewItem
    text: str


def judged_pairs(sheet: ReviewSheet, texts: Mapping[Digest, str]) -> tuple[JudgedPair, ...]:
    """Items for a judge: each once (its answers are deterministic), without those whose text or answers were erased."""
    return tuple(JudgedPair(item, texts[item.item]) for item in sheet.open if item.repeat_of is None and item.item in texts)


def judge_prompts(instruction: str, pairs: Sequence[JudgedPair]) -> tuple[tuple[Message, ...], ...]:
    """Two prompts per pair: with the candidate's answer as A, then as B. Nothing in them says whose an answer is."""
    return tuple(_asked(instruction, pair.text, *order) for pair in pairs for order in _orders(pair.item))


def pair_marks(pairs: Sequence[JudgedPair], nats_of_letters: Sequence[Sequence[float]]) -> tuple[PairMark, ...]:
    """Marks from the log-probabilities (nats) of both letters, two prompts per pair, in the order of ``judge_prompts``."""
    ahead = [nats[0] - nats[1] for nats in nats_of_letters]
    places = range(0, len(ahead), 2)
    return tuple(
        PairMark(number=pair.item.number, as_first=ahead[at], as_second=-ahead[at + 1]) for pair, at in zip(pairs, places, strict=True)
    )


def check_judgeable(release: Release, known: Sequence[ModelReview], model: str) -> None:
    """Raises InvalidInput for a ranking, whose answers are lists of names, and Conflict when there are enough judges."""
    if release.content.task is TaskKind.RANK:
        raise InvalidInput(
            "a judge model reads answers in words, and a ranking is a list of documents", "let people judge it", code="judge_ranking"
        )
    if len(known) >= MOST_JUDGES and all(one.model != model for one in known):
        raise Conflict(
            f"release {short(release.digest)} has {len(known)} judges already",
            f"see what they found: tailorbird review show {short(release.digest)}",
            code="judges_enough",
        )


def check_judge(release: Release, model: str, base: Digest) -> None:
    """Raises Forbidden (``judge_is_candidate``) for a model whose weights are the release's own."""
    if base == release.content.weights:
        raise Forbidden(
            f"{model} is what release {short(release.digest)} answers with, and cannot judge itself",
            "ask another model",
            code="judge_is_candidate",
        )


def check_fits(tokens: Sequence[int], context: int, model: str) -> None:
    """Raises InvalidInput (``judge_context``) when a prompt leaves a judge with ``context`` tokens no room to answer.

    A pair that it cannot read whole is not left out: what a judge skips would be chosen by length.
    """
    too_long = sum(count + _ROOM > context for count in tokens)
    if too_long:
        raise InvalidInput(
            f"{too_long} of {len(tokens)} questions are longer than the {context} tokens that {model} reads (one has {max(tokens)})",
            "ask a judge with a longer context",
            code="judge_context",
        )


@dataclass(frozen=True)
class ReviewerScores:
    """Reviewers' scores of a sheet, by item number, of those whose judgements count."""

    scores: Mapping[int, Sequence[float]]

    def mark(self, number: int) -> float | None:
        """Majority mark of an item: 1, 0 or a half (also where no mark leads); None without scores."""
        ranked = Counter(self.scores.get(number, ())).most_common(2)
        if not ranked:
            return None
        return ranked[0][0] if len(ranked) == 1 or ranked[0][1] > ranked[1][1] else 0.5


def judge_results(reviews: Sequence[ModelReview], people: ReviewerScores, confidence: float, seed: int) -> tuple[JudgeResult, ...]:
    """Result of each judge, in the order in which they were asked.

    Each one that could count is one more chance to stand in a good release's way. They share the error budget 1 − ``confidence`` as looks
    at a test do, in the order in which they judged: who comes later takes nothing from those before.
    """
    return tuple(_result(review, look, people, confidence, seed) for review, look in _with_looks(reviews))


def informing(judges: Sequence[JudgeResult]) -> tuple[JudgeResult, ...]:
    """The same where none may count: beside the answers in the data a model's preference says again what was counted."""
    told = "it informs only: the items are those that were counted as errors, whose count stands in the evidence"
    return tuple(judge.model_copy(update={"counts": False, "reason": told}) if judge.counts else judge for judge in judges)


def with_judges(verdict: Verdict, reason: str, judges: Sequence[JudgeResult]) -> tuple[Verdict, str]:
    """People's verdict, and what counting judges make of it: a pass becomes a fail where one proves the other answers the better ones.
    Nothing else changes, and nothing ever becomes a pass."""
    against = [judge for judge in judges if judge.counts and judge.win_rate.high is not None and judge.win_rate.high < 0.5]
    if verdict is not Verdict.PASS or not against:
        return verdict, reason
    return Verdict.FAIL, f"{'; '.join(map(_objection, against))}; {reason}"


def _objection(judge: JudgeResult) -> str:
    win, kappa = judge.win_rate, judge.kappa
    return (
        f"the judge {judge.model} finds the candidate's answers worse: preferred in {win.value:.0%} of {judge.judged} items "
        f"(at most {win.high:.0%}), and it agrees with people: kappa {kappa.value:.2f} [{kappa.low:.2f}, {kappa.high:.2f}]"
    )


def _asked(instruction: str, text: str, first: str, second: str) -> tuple[Message, ...]:
    return (Message(role="user", content=_PROMPT.format(instruction=instruction, text=text, first=first, second=second)),)


def _orders(item: ReviewItem) -> tuple[tuple[str, str], tuple[str, str]]:
    return (item.candidate, item.other), (item.other, item.candidate)


def _with_looks(reviews: Sequence[ModelReview]) -> Iterator[tuple[ModelReview, int]]:
    """Each review with the number of its look, from 1; 0 for one that cannot count. A model under a second name is one judge."""
    done = [review for review in reviews if review.state is JudgeState.DONE and not review.related and review.judged_at is not None]
    by_time = sorted(done, key=lambda review: (review.judged_at, review.model))
    bases = list(dict.fromkeys(review.base for review in by_time))
    first = {review.base: review.model for review in reversed(by_time)}
    for review in reviews:
        counts = review in done and first[review.base] == review.model
        yield review, bases.index(review.base) + 1 if counts else 0


def _result(review: ModelReview, look: int, people: ReviewerScores, confidence: float, seed: int) -> JudgeResult:
    known = JudgeResult(model=review.model, base=review.base, state=review.state, bar=review.bar, reason=_standing(review, look))
    if review.state is not JudgeState.DONE or not review.marks:
        return known
    told = spend(confidence, max(look, 1))
    said = [(people.mark(mark.number), mark.score) for mark in review.marks]
    common = [(theirs, own) for theirs, own in said if theirs is not None]
    found = known.model_copy(
        update={
            "judged": len(review.marks),
            "agreed": sum(mark.is_agreed for mark in review.marks) / len(review.marks),
            "win_rate": win_rate([(str(mark.number), mark.score) for mark in review.marks], told, seed),
            "kappa": _kappa(common, told, seed),
            "common": len(common),
            "confidence": told,
        }
    )
    counts = look > 0 and found.kappa.low is not None and found.kappa.low >= review.bar
    return found.model_copy(update={"counts": counts, "reason": found.reason or _worth(found)})


def _standing(review: ModelReview, look: int) -> str:
    """Why a review cannot count whatever people say; empty where it can."""
    if review.state is JudgeState.WAITING:
        return "it has not judged yet: a worker asks it"
    if review.state is JudgeState.FAILED:
        return f"it could not judge ({review.error})"
    if review.related:
        return f"it informs only: {review.related}"
    return "" if look else "it informs only: the same model judged under another name"


def _worth(found: JudgeResult) -> str:
    kappa = found.kappa
    if found.common < FEWEST_COMMON:
        return f"it informs only: kappa is not measured, people have judged {found.common} of its items (at least {FEWEST_COMMON})"
    if kappa.value is None or kappa.low is None or kappa.high is None:
        return "it informs only: kappa is undefined, people or judge gave all items one mark"
    told = f"kappa {kappa.value:.2f} [{kappa.low:.2f}, {kappa.high:.2f}] on {found.common} items"
    if kappa.low < found.bar:
        return f"it informs only: its agreement with people is not proven to reach {found.bar:g}: {told}"
    return f"it counts: its agreement with people is proven to reach {found.bar:g}: {told}"


def _kappa(common: Sequence[tuple[float, float]], confidence: float, seed: int) -> Bounded:
    if len(common) < FEWEST_COMMON:
        return Bounded(value=None)
    value, interval, floor = cohen_kappa(common), over_items(cohen_kappa, common, confidence, seed), cohen_floor(common, confidence)
    if value is None or interval is None or floor is None:
        return Bounded(value=value)
    return Bounded(value=value, low=min(interval[0], floor), high=interval[1])


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
