"""Judge models: both orders, no names, a kappa against people, and no verdict but a pass taken back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from release.test_label_review import judged, prefers_candidate, prefers_other, sheet
from support.release import NOW, name_of, release
from tailorbird.domain.errors import Conflict, InvalidInput
from tailorbird.domain.evidence import Verdict
from tailorbird.domain.label_review import Judgement, JudgeState, Mark, ModelReview, PairMark, ReviewItem, ReviewResult, ReviewSheet
from tailorbird.domain.objective import RiskTier, TaskKind
from tailorbird.release import JudgedPair, check_fits, check_judgeable, judge_prompts, judged_pairs, pair_marks, review_result
from tailorbird.stats.agreement import cohen_floor, cohen_kappa
from tailorbird.stats.intervals import spend

#: What somebody finds of an item: 1 for the candidate's answer, 0 for the other, a half for neither.
Finds = Callable[[int], float]


def model_review(of: ReviewSheet, finds: Finds, **changes: object) -> ModelReview:
    ahead = {1.0: (2.0, 2.0), 0.0: (-2.0, -2.0), 0.5: (2.0, -2.0)}
    numbers = [item.number for item in of.items if item.repeat_of is None]
    marks = tuple(PairMark(number=n, as_first=ahead[finds(n)][0], as_second=ahead[finds(n)][1]) for n in numbers)
    known = {"release": name_of("r"), "model": "jane", "asked_by": "rita", "asked_at": NOW, "bar": 0.4, "marks": marks}
    return ModelReview.model_validate(known | {"state": JudgeState.DONE, "base": name_of("jane"), "judged_at": NOW} | changes)


def says(finds: Finds) -> Callable[[ReviewItem, str], Mark]:
    def of(item: ReviewItem, side: str) -> Mark:
        found = finds(item.repeat_of or item.number)
        return Mark.TIE if found == 0.5 else prefers_candidate(item, side) if found else prefers_other(item, side)

    return of


def people(of: ReviewSheet, finds: Finds, names: Sequence[str] = ("rita", "ravi")) -> list[Judgement]:
    return [judgement for name in names for judgement in judged(of, name, says(finds))]


def result(of: ReviewSheet, judgements: Sequence[Judgement], *reviews: ModelReview, confidence: float = 0.95) -> ReviewResult:
    return review_result(of, judgements, confidence, 3, reviews)


def undecided(n: int) -> float:
    """People who find the candidate's answer better on 13 of 40 items, the other on 20, and neither on 7: nothing is proven."""
    return 1.0 if n <= 13 else 0.0 if n <= 33 else 0.5


def stricter(n: int) -> float:
    """A judge who agrees with them on all but five items, which it gives to the other."""
    return 1.0 if n <= 11 else 0.0 if n <= 36 else 0.5


SHEET = sheet()


def test_each_pair_is_asked_in_both_orders_and_names_nobody() -> None:
    pairs = judged_pairs(SHEET, {item.item: f"text {item.number}" for item in SHEET.items})
    assert len(pairs) == 40, "an item that is shown again is not asked again"
    prompts = judge_prompts("Route it.", pairs[:1])
    one, other = (prompt[0].content for prompt in prompts)
    answers = pairs[0].item.candidate, pairs[0].item.other
    assert f"Answer A: {answers[0]}\n\nAnswer B: {answers[1]}" in one
    assert f"Answer A: {answers[1]}\n\nAnswer B: {answers[0]}" in other
    for content in (one, other):
        assert "Route it." in content
        assert pairs[0].text in content
        assert not any(word in content for word in ("candidate", SHEET.against, SHEET.snapshot, SHEET.objective_name))


def test_items_whose_text_was_erased_are_not_asked() -> None:
    texts = {item.item: "text" for item in SHEET.items if item.number != 7}
    assert 7 not in [pair.item.number for pair in judged_pairs(SHEET, texts)]
    emptied = SHEET.items[2].model_copy(update={"candidate": "", "other": "", "erased": True})
    stands_in = SHEET.model_copy(update={"items": (*SHEET.items[:2], emptied, *SHEET.items[3:])})
    assert {pair.item.number for pair in judged_pairs(stands_in, texts)} == set(range(1, 41)) - {3, 7}


def test_braces_in_a_text_stay_text() -> None:
    [prompt, _] = judge_prompts("Say {first}.", [JudgedPair(SHEET.items[0], "a {text} of {0}")])
    assert "a {text} of {0}" in prompt[0].content
    assert "Say {first}." in prompt[0].content


@given(a_ahead=st.floats(-5, 5), b_ahead=st.floats(-5, 5))
def test_a_mark_needs_both_orders(a_ahead: float, b_ahead: float) -> None:
    """``a_ahead``: by how much A is likelier with the candidate as A; ``b_ahead``: by how much B is with the candidate as B."""
    [mark] = pair_marks([JudgedPair(SHEET.items[0], "t")], [(a_ahead, 0.0), (0.0, b_ahead)])
    expected = 1.0 if min(a_ahead, b_ahead) > 0 else 0.0 if max(a_ahead, b_ahead) < 0 else 0.5
    if a_ahead * b_ahead != 0 or min(abs(a_ahead), abs(b_ahead)) == 0:
        assert mark.score == expected
    assert mark.is_agreed is (mark.score != 0.5)


def test_a_judge_that_always_says_a_is_no_judge() -> None:
    pairs = judged_pairs(SHEET, {item.item: "t" for item in SHEET.items})
    marks = pair_marks(pairs, [(-0.1, -2.0)] * (2 * len(pairs)))
    found = result(SHEET, people(SHEET, undecided), model_review(SHEET, undecided, marks=marks)).judges[0]
    assert (found.agreed, found.win_rate.value) == (0, 0.5)
    assert not found.counts


def test_a_judge_that_agrees_with_people_takes_a_pass_back() -> None:
    assert result(SHEET, people(SHEET, undecided)).verdict is Verdict.PASS
    found = result(SHEET, people(SHEET, undecided), model_review(SHEET, stricter))
    [judge] = found.judges
    assert judge.counts, judge
    assert judge.kappa.low is not None
    assert judge.kappa.low >= 0.4
    assert found.verdict is Verdict.FAIL
    assert "jane" in found.reason
    assert "kappa" in found.reason
    assert "people do not find" in found.reason


def test_no_judge_counts_where_all_items_were_counted_as_errors() -> None:
    given = people(SHEET, undecided)
    found = review_result(SHEET, given, 0.95, 3, (model_review(SHEET, stricter),), errors_alone=True)
    assert (found.verdict, found.judges[0].counts) == (Verdict.PASS, False)
    assert "counted as errors" in found.judges[0].reason


def test_a_judge_whose_agreement_is_not_proven_informs_only() -> None:
    for finds in (lambda n: float(n % 2), lambda n: 1 - undecided(n), lambda _n: 0.0):
        found = result(SHEET, people(SHEET, undecided), model_review(SHEET, finds))
        assert found.verdict is Verdict.PASS
        assert not found.judges[0].counts
        assert "informs only" in found.judges[0].reason


def test_the_bar_is_the_one_it_was_asked_under() -> None:
    found = result(SHEET, people(SHEET, undecided), model_review(SHEET, stricter, bar=0.99))
    assert found.verdict is Verdict.PASS
    assert "0.99" in found.judges[0].reason


def test_too_few_common_items_measure_no_kappa() -> None:
    some = [judgement for judgement in people(SHEET, undecided) if judgement.number <= 19]
    [judge] = result(SHEET, some, model_review(SHEET, stricter)).judges
    assert (judge.common, judge.kappa.value, judge.counts) == (19, None, False)
    assert "not measured" in judge.reason
    assert judge.win_rate.value is not None, "it informs all the same"
    [none] = result(SHEET, [], model_review(SHEET, stricter)).judges
    assert (none.common, none.kappa.value) == (0, None)


def test_flagged_reviewers_are_no_people_to_agree_with() -> None:
    always_left = judged(SHEET, "lena", lambda _item, _side: Mark.LEFT)
    [judge] = result(SHEET, always_left, model_review(SHEET, stricter)).judges
    assert judge.common == 0


def test_where_people_are_split_they_prefer_neither() -> None:
    split = people(SHEET, lambda _n: 1.0, ["rita"]) + people(SHEET, lambda _n: 0.0, ["ravi"])
    [judge] = result(SHEET, split, model_review(SHEET, lambda n: 0.5 if n > 1 else 1.0)).judges
    assert judge.common == 40
    third = people(SHEET, lambda _n: 0.0, ["rosa"])
    assert result(SHEET, split + third, model_review(SHEET, lambda n: float(n == 1))).judges[0].kappa.value == 0


def test_a_judge_is_never_one_of_the_people() -> None:
    without = result(SHEET, people(SHEET, undecided, ["rita"]))
    beside = result(SHEET, people(SHEET, undecided, ["rita"]), model_review(SHEET, lambda _n: 1.0))
    assert beside.model_copy(update={"judges": ()}) == without
    assert (beside.verdict, beside.missing) == (Verdict.INCONCLUSIVE, 1)


def test_a_judge_of_the_answers_own_kin_never_counts() -> None:
    found = result(SHEET, people(SHEET, undecided), model_review(SHEET, stricter, related="both answers were made from it"))
    assert found.verdict is Verdict.PASS
    assert "both answers were made from it" in found.judges[0].reason


def test_waiting_and_failed_judges_say_so() -> None:
    waiting = model_review(SHEET, stricter, state="waiting", marks=(), base=None, judged_at=None)
    failed = waiting.model_copy(update={"model": "jim", "state": JudgeState.FAILED, "error": "judge_context"})
    found = result(SHEET, people(SHEET, undecided), waiting, failed)
    assert found.verdict is Verdict.PASS
    assert ["worker" in judge.reason for judge in found.judges] == [True, False]
    assert "judge_context" in found.judges[1].reason


def test_several_judges_share_one_budget_and_later_ones_take_nothing_away() -> None:
    first = model_review(SHEET, stricter)
    others = [
        model_review(SHEET, undecided, model=name, base=name_of(name), judged_at=NOW + timedelta(hours=at), asked_at=NOW)
        for at, name in enumerate(("jim", "joe"), 1)
    ]
    alone = result(SHEET, people(SHEET, undecided), first).judges[0]
    together = result(SHEET, people(SHEET, undecided), *others, first)
    assert together.judges[2] == alone
    assert [judge.confidence for judge in together.judges] == [spend(0.95, look) for look in (2, 3, 1)]
    assert together.verdict is Verdict.FAIL


def test_one_model_under_two_names_is_one_judge() -> None:
    again = model_review(SHEET, stricter, model="jane-again", judged_at=NOW + timedelta(hours=1))
    found = result(SHEET, people(SHEET, undecided), model_review(SHEET, stricter), again)
    assert [judge.counts for judge in found.judges] == [True, False]
    assert found.reason.count("the judge") == 1


def test_a_few_alike_marks_prove_no_agreement() -> None:
    """A bootstrap of perfect agreement never sees a disagreement; the floor under it does."""
    lopsided = [(1.0, 1.0)] * 19 + [(0.0, 0.0)]
    assert cohen_kappa(lopsided) == 1
    floor = cohen_floor(lopsided, 0.95)
    assert floor is not None
    assert floor < 0.4
    balanced = cohen_floor([(1.0, 1.0)] * 20 + [(0.0, 0.0)] * 20, 0.95)
    assert balanced is not None
    assert 0.6 < balanced < 1
    assert cohen_floor([(1.0, 1.0)] * 9, 0.95) is None
    assert cohen_floor([], 0.95) is None


def test_what_a_judge_cannot_read_whole_is_refused() -> None:
    check_fits([100, 120], 124, "jane")
    with pytest.raises(InvalidInput, match="1 of 2 questions are longer than the 123 tokens") as caught:
        check_fits([100, 120], 123, "jane")
    assert caught.value.error_code == "judge_context"


def test_rankings_have_no_judge_and_judges_have_an_end() -> None:
    spoken = release()
    ranking = spoken.model_copy(update={"content": spoken.content.model_copy(update={"task": TaskKind.RANK})})
    with pytest.raises(InvalidInput) as refused:
        check_judgeable(ranking, (), "jane")
    assert refused.value.error_code == "judge_ranking"
    many = [model_review(SHEET, undecided, model=f"m{n}") for n in range(8)]
    check_judgeable(spoken, many[:7], "jane")
    check_judgeable(spoken, many, "m3")
    with pytest.raises(Conflict) as full:
        check_judgeable(spoken, many, "jane")
    assert full.value.error_code == "judges_enough"


FINDS = st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=40, max_size=40)


@settings(max_examples=25, deadline=None)
@given(theirs=FINDS, model=FINDS, reviewers=st.sampled_from([(), ("rita",), ("rita", "ravi")]), related=st.sampled_from(["", "kin"]))
def test_a_judge_only_ever_takes_a_pass_back(theirs: list[float], model: list[float], reviewers: tuple[str, ...], related: str) -> None:
    given = people(SHEET, lambda n: theirs[n - 1], reviewers)
    before, after = result(SHEET, given), result(SHEET, given, model_review(SHEET, lambda n: model[n - 1], related=related))
    assert after.model_copy(update={"judges": (), "verdict": before.verdict, "reason": before.reason}) == before
    if after.verdict is not before.verdict:
        assert (before.verdict, after.verdict) == (Verdict.PASS, Verdict.FAIL)
        [judge] = after.judges
        assert judge.counts
        assert not related
        assert judge.kappa.low is not None
        assert judge.kappa.low >= 0.4
        assert judge.win_rate.high is not None
        assert judge.win_rate.high < 0.5


def test_the_tier_sets_the_confidence() -> None:
    limited = sheet(RiskTier.LIMITED)
    [judge] = result(limited, people(limited, undecided, ["rita"]), model_review(limited, stricter), confidence=0.9).judges
    assert judge.confidence == spend(0.9, 1)
