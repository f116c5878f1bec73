"""A judge model is asked once about a release, is in one hand at a time, and is taken up again when that hand is gone."""

from __future__ import annotations

from datetime import timedelta

import pytest

import support.ledger_samples as sample
from tailorbird.domain.errors import LeaseLost
from tailorbird.domain.label_review import JudgeState

MINUTE = timedelta(minutes=1)
RELEASE = sample.release("acme")
ASKED = sample.model_review(RELEASE)


@pytest.fixture
def asked(ledger):
    with ledger.work("acme") as work:
        work.releases.add(RELEASE)
        work.model_reviews.add(ASKED)
        work.model_reviews.add(sample.model_review(RELEASE, "jim"))
    return ledger


def test_asking_again_gives_what_there_is(asked):
    with asked.work("acme") as work:
        assert work.model_reviews.add(ASKED.model_copy(update={"asked_by": "ravi", "bar": 0.9})) == ASKED
        assert [review.model for review in work.model_reviews.of(RELEASE.digest)] == ["jane", "jim"]


def test_what_was_found_is_read_to_the_last_bit(asked):
    found = sample.judged(ASKED).model_copy(update={"attempts": 1})
    with asked.work("acme") as work:
        assert work.model_reviews.take(ASKED, "a", MINUTE)
        work.model_reviews.finish(found, "a")
        assert work.model_reviews.of(RELEASE.digest)[0] == found
        assert not work.model_reviews.take(ASKED, "a", MINUTE), "it waits for nobody any more"
        work.model_reviews.reopen(ASKED)
        assert work.model_reviews.of(RELEASE.digest)[0] == found


def test_one_hand_at_a_time(asked, clock):
    with asked.work("acme") as work:
        assert work.model_reviews.take(ASKED, "a", MINUTE)
        assert work.model_reviews.take(ASKED, "a", MINUTE)
        assert not work.model_reviews.take(ASKED, "b", MINUTE)
    with asked.system(write=False) as system:
        assert [(tenant, review.model) for tenant, review in system.queue.judging()] == [("acme", "jim")]
    clock.move(120)
    with asked.system(write=False) as system:
        assert [review.model for _, review in system.queue.judging()] == ["jane", "jim"]
        assert [review.model for _, review in system.queue.judging(limit=1)] == ["jane"]
    with asked.work("acme") as work:
        assert work.model_reviews.take(ASKED, "b", MINUTE)
        with pytest.raises(LeaseLost):
            work.model_reviews.finish(sample.judged(ASKED), "a")
        work.model_reviews.finish(sample.judged(ASKED), "b")
        with pytest.raises(LeaseLost):
            work.model_reviews.finish(ASKED, "b")


def test_a_failure_waits_until_it_is_asked_again(asked):
    with asked.work("acme") as work:
        work.model_reviews.take(ASKED, "a", MINUTE)
        work.model_reviews.finish(ASKED.model_copy(update={"state": JudgeState.FAILED, "error": "model_unknown"}), "a")
    with asked.system(write=False) as system:
        assert [review.model for _, review in system.queue.judging()] == ["jim"]
    with asked.work("acme") as work:
        work.model_reviews.reopen(ASKED)
        assert work.model_reviews.of(RELEASE.digest)[0] == ASKED
    with asked.system(write=False) as system:
        assert [review.model for _, review in system.queue.judging()] == ["jane", "jim"]


def test_a_clock_that_was_set_back_holds_nothing_for_ever(asked, clock):
    clock.move(86400)
    with asked.work("acme") as work:
        assert work.model_reviews.take(ASKED, "a", MINUTE)
    clock.move(-86400)
    with asked.work("acme") as work:
        assert work.model_reviews.take(ASKED, "b", MINUTE)
