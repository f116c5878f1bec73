"""Label review: blind, in everybody's own order, with repeats; what counts and what does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support.release import NOW, name_of, objective
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.evidence import ItemResult, Verdict
from tailorbird.domain.label_review import Judgement, Mark, ReviewItem, ReviewSheet
from tailorbird.domain.objective import RiskTier
from tailorbird.release import Disagreement, candidate_side, check_mark, draw_sheet, next_item, review_result

#: What a reviewer says of an item, told where the candidate's answer stands.
Says = Callable[[ReviewItem, str], Mark]


def results(prefix: str, count: int = 60, alike: int = 20) -> list[ItemResult]:
    return [
        ItemResult(item=name_of(f"i{n}"), group=f"g{n}", target="a", prediction="same" if n < alike else f"{prefix}{n}", correct=True)
        for n in range(count)
    ]


def between(ours: list[ItemResult], theirs: list[ItemResult], unlike: frozenset[str] = frozenset()) -> Disagreement:
    return Disagreement(ours, theirs, "test", unlike)


def sheet(risk: RiskTier = RiskTier.HIGH, **changes: int) -> ReviewSheet:
    drawn = draw_sheet(objective(risk), name_of("snapshot"), "release x", between(results("new", **changes), results("old", **changes)))
    assert drawn is not None
    return drawn


def judged(of: ReviewSheet, reviewer: str, says: Says) -> list[Judgement]:
    """All items, in the reviewer's order."""
    given: list[Judgement] = []
    while (item := next_item(of, reviewer, given)) is not None:
        side = candidate_side(of, reviewer, item)
        given.append(
            Judgement(
                release=name_of("r"),
                reviewer=reviewer,
                number=item.number,
                mark=says(item, side),
                candidate_side=side,
                reason="because",
                at=NOW,
            )
        )
    return given


def prefers_candidate(_item: ReviewItem, side: str) -> Mark:
    return Mark(side)


def prefers_other(_item: ReviewItem, side: str) -> Mark:
    return Mark.LEFT if side == "right" else Mark.RIGHT


def test_only_disagreements_are_asked_and_some_twice() -> None:
    drawn = sheet()
    first = [item for item in drawn.items if item.repeat_of is None]
    assert len(first) == 40
    assert all(item.candidate != item.other for item in drawn.items)
    assert len(drawn.items) - len(first) == 5
    assert sheet() == drawn


def test_sides_are_by_lot_and_change_when_an_item_comes_again() -> None:
    drawn = sheet()
    sides = [candidate_side(drawn, "rita", item) for item in drawn.items if item.repeat_of is None]
    assert 10 < sides.count("left") < 30
    for item in drawn.items:
        if item.repeat_of is not None:
            assert candidate_side(drawn, "rita", item) != candidate_side(drawn, "rita", drawn.items[item.repeat_of - 1])
    orders = {tuple(judgement.number for judgement in judged(drawn, name, prefers_candidate)) for name in ("rita", "ravi")}
    assert len(orders) == 2


def test_two_who_prefer_the_candidate_pass_it_and_agree() -> None:
    drawn = sheet()
    found = review_result(drawn, judged(drawn, "rita", prefers_candidate) + judged(drawn, "ravi", prefers_candidate), 0.95, 3)
    assert (found.verdict, found.missing) == (Verdict.PASS, 0)
    assert found.win_rate.value == 1
    assert [record.consistency for record in found.reviewers] == [1, 1]


def test_answers_that_people_find_worse_fail() -> None:
    drawn = sheet(RiskTier.LIMITED)
    found = review_result(drawn, judged(drawn, "rita", prefers_other), 0.9, 3)
    assert found.verdict is Verdict.FAIL


def test_what_was_counted_as_errors_is_judged_and_fails_nothing() -> None:
    """Beside the labels of the data everything shown was counted as wrong: honest reviewers prefer the labels, and that is no news."""
    drawn = sheet()
    given = judged(drawn, "rita", prefers_other) + judged(drawn, "ravi", prefers_other)
    found = review_result(drawn, given, 0.95, 3, errors_alone=True)
    assert (found.verdict, found.win_rate.value) == (Verdict.PASS, 0)
    half = review_result(drawn, given[: len(given) // 2], 0.95, 3, errors_alone=True)
    assert (half.verdict, half.missing) == (Verdict.INCONCLUSIVE, 1)


def test_an_error_that_was_skipped_has_to_be_judged_by_somebody_else() -> None:
    """Attendance is all that a review of errors asks for: a skip is none."""
    drawn = sheet()

    def skips_one(item: ReviewItem, side: str) -> Mark:
        return Mark.SKIP if item.number == 3 else prefers_other(item, side)

    given = judged(drawn, "rita", skips_one) + judged(drawn, "ravi", prefers_other)
    found = review_result(drawn, given, 0.95, 3, errors_alone=True)
    assert (found.verdict, found.missing) == (Verdict.INCONCLUSIVE, 0)
    third = [one for one in judged(drawn, "sam", prefers_other) if one.number == 3]
    assert review_result(drawn, given + third, 0.95, 3, errors_alone=True).verdict is Verdict.PASS
    assert review_result(drawn, given, 0.95, 3).verdict is Verdict.FAIL, "elsewhere a skip leaves the item out"


def test_whoever_always_says_left_is_flagged_and_does_not_count() -> None:
    drawn = sheet(RiskTier.LIMITED)
    found = review_result(drawn, judged(drawn, "lena", lambda _item, _side: Mark.LEFT), 0.9, 3)
    (record,) = found.reviewers
    assert record.flagged
    assert record.consistency == 0
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.missing == 1
    honest = review_result(drawn, judged(drawn, "rita", prefers_candidate), 0.9, 3)
    assert not honest.reviewers[0].flagged


def test_whoever_skips_most_does_not_count_and_a_skip_needs_a_reason() -> None:
    drawn = sheet(RiskTier.LIMITED)
    found = review_result(drawn, judged(drawn, "sam", lambda _item, _side: Mark.SKIP), 0.9, 3)
    assert found.reviewers[0].flagged
    with pytest.raises(InvalidInput):
        check_mark(Mark.SKIP, " ")
    check_mark(Mark.SKIP, "two languages")


def test_half_a_review_is_none() -> None:
    drawn = sheet(RiskTier.LIMITED)
    found = review_result(drawn, judged(drawn, "rita", prefers_candidate)[:-1], 0.9, 3)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "1 reviewer" in found.reason
    assert review_result(drawn, [], 0.9, 3).verdict is Verdict.INCONCLUSIVE
