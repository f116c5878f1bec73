"""What every ledger must do with rollouts, feedback and the queue for people."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest

import support.ledger_samples as sample
from support.ledger_samples import START, digest
from tailorbird.domain.deployment import SHADOW, shadow_id
from tailorbird.domain.errors import Conflict, NotFound
from tailorbird.domain.feedback import FeedbackKind
from tailorbird.domain.rollout import RolloutState

SECOND = timedelta(seconds=1)


def answered(n: int, **changes: object):
    return sample.request("acme", n).model_copy(update={"version": 1, **changes})


def said(n: int, **changes: object):
    return sample.feedback("acme").model_copy(update={"request": f"request-{n}", **changes})


class TestRollouts:
    def test_an_alias_has_one_open_rollout(self, ledger):
        first = sample.rollout("acme")
        with ledger.work("acme") as work:
            work.rollouts.add(first)
            with pytest.raises(Conflict) as refused:
                work.rollouts.add(first.model_copy(update={"id": "f" * 12}))
            assert refused.value.error_code == "rollout_open"
            work.rollouts.replace(first.model_copy(update={"revision": first.revision + 1, "state": RolloutState.PROMOTED}))
            work.rollouts.add(first.model_copy(update={"id": "f" * 12}))
            assert [one.id for one in work.rollouts.latest()] == ["f" * 12, first.id]
            assert [one.id for one in work.rollouts.latest(1)] == ["f" * 12]
            assert [one.id for one in work.rollouts.open()] == ["f" * 12]
            assert work.rollouts.open("another") == ()
        with ledger.work("globex") as work:
            work.rollouts.add(sample.rollout("globex"))
        with ledger.system(write=False) as system:
            assert system.aliases.rolling_out() == ("acme", "globex")
        with ledger.work("acme") as work:
            work.rollouts.replace(first.model_copy(update={"id": "f" * 12, "revision": first.revision + 1, "state": RolloutState.HELD}))
        with ledger.work("globex") as work:
            work.rollouts.replace(sample.rollout("globex").model_copy(update={"revision": 2, "state": RolloutState.ROLLED_BACK}))
        with ledger.system(write=False) as system:
            assert system.aliases.rolling_out() == ("acme",)

    def test_a_revision_follows_the_one_before(self, ledger):
        first = sample.rollout("acme")
        with ledger.work("acme") as work:
            work.rollouts.add(first)
            for revision in (first.revision, first.revision + 2):
                with pytest.raises(Conflict) as refused:
                    work.rollouts.replace(first.model_copy(update={"revision": revision}))
                assert refused.value.error_code == "alias_moved"
            assert work.rollouts.get(first.id[:4]) == first
            for wrong in ("f", "%", first.id + "0"):
                with pytest.raises(NotFound):
                    work.rollouts.get(wrong)


class TestTallies:
    def test_a_unit_counts_once_with_its_means(self, ledger):
        rows = [
            answered(1, unit="u", latency_ms=1.0, cost=1.0, agrees=True),
            answered(2, unit="u", latency_ms=math.e**2, cost=0.0, agrees=False, malformed=True),
            answered(3, unit="u", outcome="error", latency_ms=0.0),
            answered(4, referred=True, latency_ms=math.e, cost=1.0),
            answered(5, release=digest("b"), outcome="refused"),
            answered(6, arm=SHADOW),
            answered(7, version=0),
            answered(8, release=None),
            answered(9, alias="another"),
            answered(10, arm="fallback", cost=5.0),
        ]
        with ledger.work("acme") as work:
            work.requests.add(rows)
            work.feedback.put(said(1, score=1.0))
            work.feedback.put(said(1, source="key-2", score=0.0))
            work.feedback.put(said(2, score=1.0))
            found = {(tally.release, tally.shadow): tally for tally in work.rollouts.tallies("routing", 1, START)}
        assert found.keys() == {(digest("release"), False), (digest("b"), False)}
        tally = found[digest("release"), False]
        assert (tally.version, tally.units, tally.requests) == (1, 2, 4)
        assert (tally.errors, tally.refusals, tally.malformed, tally.ended) == (1, 1, 1, 4)
        assert (tally.latency.n, tally.latency.total, tally.latency.squares) == pytest.approx((2, 2.0, 2.0))
        assert (tally.cost.n, tally.cost.total) == pytest.approx((2, math.log(1e-9) / 2))
        assert (tally.feedback.n, tally.feedback.total, tally.feedback.squares) == pytest.approx((1, 0.75, 0.5625))
        refused = found[digest("b"), False]
        assert (refused.refusals, refused.latency.n, refused.latency.total, refused.feedback.n) == (1, 0, 0.0, 0)

    def test_what_both_were_asked_is_compared_in_pairs(self, ledger):
        error, refused = {"outcome": "error", "status": 500}, {"outcome": "refused", "status": 400}
        asked = [
            ({}, error | {"agrees": None}),
            (error, {"agrees": None}),
            (error, error | {"agrees": None}),
            ({"malformed": True}, {"referred": True, "agrees": False}),
            # One user: only the first pair in which one alone failed is theirs.
            ({"unit": "u"}, {"unit": "u", "agrees": True}),
            ({"unit": "u"} | refused, {"unit": "u"}),
            ({"unit": "u"}, {"unit": "u"} | refused),
            # Two texts of one request, at one time, both ways: nobody's.
            ({"unit": "r", "at": START} | refused, {"unit": "r", "at": START}),
            ({"unit": "r", "at": START}, {"unit": "r", "at": START} | refused),
            # No pairs: who gave up, who stood in, who was forgotten, who was not mirrored.
            ({"outcome": "aborted"}, error),
            ({}, error | {"outcome": "aborted"}),
            ({"arm": "fallback"}, error),
            ({"unit": "forgotten"}, {"unit": "forgotten"} | error),
            (error, None),
        ]
        rows = [answered(n, **of_old) for n, (of_old, _) in enumerate(asked)]
        for row, (_, of_new) in zip(list(rows), asked, strict=True):
            own = {"id": shadow_id(row.id), "arm": SHADOW, "release": digest("b"), "version": 1}
            rows += [sample.request("acme", 0).model_copy(update={"at": row.at, **own, **of_new})] if of_new is not None else []
        with ledger.work("acme") as work:
            work.requests.add(rows)
            found = {(tally.release, tally.shadow): tally for tally in work.rollouts.tallies("routing", 1, START)}
        whole, old, new = found[digest("release"), False], found[digest("release"), True], found[digest("b"), True]
        assert len(found) == 3
        assert (whole.ended, old.units, old.requests, new.units, new.requests) == (11, 6, 9, 6, 9)
        assert [(tally.errors, tally.errors_alone) for tally in (old, new)] == [(2, 1), (2, 1)]
        assert [(tally.refusals, tally.refusals_alone) for tally in (old, new)] == [(2, 1), (3, 1)]
        assert [(tally.malformed, tally.malformed_alone) for tally in (old, new)] == [(1, 1), (0, 0)]
        assert (new.compared, new.agreed) == (2, 1)
        assert (old.latency.n, new.latency.n) == (0, 0)

    def test_what_a_person_asked_who_was_erased_is_nobodys(self, ledger):
        """Else each of their requests would be a user of its own."""
        with ledger.work("acme") as work:
            work.requests.add([*(answered(n, unit="u", outcome="error") for n in range(1, 6)), answered(6, unit="v"), answered(7)])
            for n in (1, 2, 6, 7):
                work.feedback.put(said(n, score=1.0))
            work.requests.forget([f"request-{n}" for n in (1, 2, 3, 4, 5, 7)])
            assert work.requests.of_units(["u"]) == ()
            (tally,) = work.rollouts.tallies("routing", 1, START)
            (vote,) = work.rollouts.votes("routing", digest("release"), 1)
        assert (tally.units, tally.requests, tally.errors, tally.feedback.n) == (2, 2, 0, 2)
        assert (vote.said, vote.units) == (2, 2)


class TestFeedback:
    def test_of_one_source_the_latest_counts(self, ledger):
        with ledger.work("acme") as work:
            work.requests.add([answered(1), answered(2, release=digest("b"))])
            work.feedback.put(said(1, at=START + SECOND))
            work.feedback.put(said(1, value="down", score=0.0, at=START + 2 * SECOND))
            work.feedback.put(said(1, source="key-2", at=START))
            work.feedback.put(said(2, kind=FeedbackKind.LABEL, value="x", score=None))
            assert [(one.source, one.value) for one in work.feedback.of("request-1")] == [("key-2", "up"), ("key-1", "down")]
            (thumbs,) = work.feedback.marks(digest("release"), START)
            assert (thumbs.kind, thumbs.n, thumbs.mean) == (FeedbackKind.THUMB, 2, 0.5)
            (late,) = work.feedback.marks(digest("release"), START + SECOND)
            assert (late.n, late.mean) == (1, 0.0)
            assert work.feedback.marks(digest("b"), START) == ()
            assert (work.feedback.count({digest("release")}), work.feedback.count({digest("b"), digest("release")})) == (2, 3)


@pytest.mark.parametrize(
    "write",
    [
        lambda work: work.reviews.add([sample.review("acme")]),
        lambda work: work.contents.add([sample.content("acme")]),
        lambda work: work.judgements.add(sample.judgement(sample.release("acme"))),
        lambda work: work.steps.enqueue("run0001", "plan"),
    ],
)
def test_nothing_refers_to_what_is_not_there(ledger, write):
    with pytest.raises(Conflict) as refused, ledger.work("acme") as work:
        write(work)
    assert refused.value.error_code == "conflict"
