"""Guards over a shadow: right however few requests are mirrored, and whatever load and requests have in common for both releases."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import numpy as np
import pytest

from support.serving import digest
from tailorbird.domain.objective import RiskTier
from tailorbird.domain.rollout import ArmTally, Guard, GuardName, GuardReport, Rollout, RolloutAction, RolloutPlan, RolloutStep
from tailorbird.serving.rollout_guards import evaluate_guards

OLD, NEW = digest(1), digest(2)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
STEPS = (RolloutStep(kind="shadow", requests=10**6), RolloutStep(share=0.5))
PLAN = RolloutPlan(steps=STEPS, guards=(Guard(name=GuardName.ERRORS, margin=0.0),))
ROLLOUT = Rollout(
    id="0" * 12, tenant="acme", alias="routing", candidate=NEW, incumbent=OLD, risk=RiskTier.LIMITED, plan=PLAN, salt="s", versions=(1,),
    step_since=NOW, started_by="olga", started_at=NOW, changed_at=NOW,
)  # fmt: skip


def judged(asked: int, pairs: int, errors: Iterable[int], alone: Iterable[int]) -> GuardReport:
    """After so many requests, of which ``pairs`` were mirrored; errors of the release before, and of the one in the shadow."""
    tallies = [ArmTally(version=1, release=OLD, shadow=False, units=asked, requests=asked, ended=asked)]
    for release, count, only in zip((OLD, NEW), errors, alone, strict=True):
        own = {"units": pairs, "requests": pairs, "ended": pairs, "errors": int(count), "errors_alone": int(only)}
        tallies.append(ArmTally.model_validate({"version": 1, "release": release, "shadow": True} | own))
    return evaluate_guards(ROLLOUT, tallies, NOW)


def story(draw: np.random.Generator, before: float, after: float) -> bool:
    """True where the candidate is taken back, looked at after every pair that tells something against it.

    Requests come in bursts of 10 to 200, of which the first 64 are mirrored. Errors grow with the burst, and half of them are the request's
    own doing, so that both releases fail.
    """
    asked, pairs, errors, alone = 0, 0, np.zeros(2, int), np.zeros(2, int)
    while asked < 1000:
        burst = int(draw.integers(10, 200))
        common, own, which = draw.random((burst, 1)), draw.random((burst, 2)), draw.random((burst, 2)) < 0.5
        load = 0.5 + np.arange(burst)[:, None] / burst
        failed = np.where(which, common, own) < load * [before, after]
        for place in np.flatnonzero(failed.any(axis=1)[:64]):
            errors, alone = errors + failed[place], alone + (failed[place] & ~failed[place, ::-1])
            told = (asked + int(place) + 1, pairs + int(place) + 1)
            if alone[1] > alone[0] and judged(*told, errors, alone).action is RolloutAction.ROLL_BACK:
                return True
        asked, pairs = asked + burst, pairs + min(burst, 64)
    return False


def test_a_release_that_is_as_good_is_seldom_taken_back() -> None:
    """However often one looks, in at most the share of all stories that the plan promises; without a margin, which spares it more."""
    draw = np.random.default_rng(7)
    assert sum(story(draw, 0.05, 0.05) for _ in range(400)) <= 400 * PLAN.alpha


def test_few_mirrored_requests_do_not_hide_a_higher_rate() -> None:
    """10 % of 1,000 before, 30 % of the 200 that were mirrored: counted as if half of all were the candidate's, it seemed the better."""
    found = judged(1000, 200, (20, 60), (10, 50))
    errors = found.guards[0]
    assert (found.action, errors.incumbent, errors.candidate) == (RolloutAction.ROLL_BACK, pytest.approx(0.1), pytest.approx(0.3))
