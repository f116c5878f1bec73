"""Guards watched after every request, on simulated traffic: how often they take back a release that is as good, how soon one that is not.

Six guards at once, as a plan has them by default. Requests come one by one, half of them to the release; rates of both arms swing
together, as nights and days do. "Within 500 requests" counts requests to the release; what holds when both arms are counted is beside it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
from run import Bar, Measured

from tailorbird.domain.objective import RiskTier
from tailorbird.domain.rollout import ArmTally, Rollout, RolloutAction, RolloutPlan, RolloutStep, Sums
from tailorbird.serving.rollout_guards import evaluate_guards

BARS: dict[str, Bar] = {
    "guards_false_rollback_aa": (0.05, 0.01, "share", True),
    "guards_rollback_within_500": (0.95, 0.99, "share", False),
}
_OLD, _NEW = f"sha256:{1:064x}", f"sha256:{2:064x}"
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_ROLLOUT = Rollout(
    id="0" * 12,
    tenant="acme",
    alias="routing",
    candidate=_NEW,
    incumbent=_OLD,
    risk=RiskTier.LIMITED,
    plan=RolloutPlan(steps=(RolloutStep(share=0.5, requests=10**7),)),
    salt="s",
    versions=(1,),
    step_since=_NOW,
    started_by="olga",
    started_at=_NOW,
    changed_at=_NOW,
)


def measure(quick: bool) -> Measured:
    stories = 200 if quick else 1000
    same = [_story(seed, 2000, 0.02) for seed in range(stories)]
    worse = [_story(10**6 + seed, 1000, 0.10) for seed in range(stories)]
    # Of 1,000 requests in all about 500 are the release's; the 500th of them is where a story ends.
    caught = [found for found in worse if found is not None and found["to_release"] <= 500]
    in_all = [found for found in worse if found is not None and found["in_all"] <= 500]
    false = sum(found is not None for found in same) / stories
    values = {"guards_false_rollback_aa": round(false, 4), "guards_rollback_within_500": round(len(caught) / stories, 4)}
    detail = {
        "stories": stories,
        "requests_aa": 2000,
        "rollback_within_500_of_both_arms": round(len(in_all) / stories, 4),
        "requests_to_the_release_until_rollback_median": float(np.median([found["to_release"] for found in caught])),
        "alpha": _ROLLOUT.plan.alpha,
        "guards": [guard.name.value for guard in _ROLLOUT.plan.guards],
    }
    return Measured(values, detail)


def _story(seed: int, requests: int, error_rate: float) -> dict[str, int] | None:
    """Where the release was taken back, if it was. Looks whenever a rate may have moved, and at means every 20 requests."""
    draw = np.random.default_rng(seed)
    new = draw.random(requests) < 0.5
    swing = 1 + 0.5 * np.sin(np.arange(requests) / 150)
    events = {
        "errors": draw.random(requests) < np.where(new, error_rate, 0.02) * swing,
        "refusals": draw.random(requests) < 0.02 * swing,
        "malformed": draw.random(requests) < 0.01,
    }
    values = {
        "latency": draw.normal(4 + np.log(swing), 0.6),
        "cost": draw.normal(-9, 0.3, requests),
        "feedback": np.where(draw.random(requests) < 0.2, (draw.random(requests) < 0.8).astype(float), np.nan),
    }
    arms = [_running(events, values, ~new), _running(events, values, new)]
    moved = events["errors"] | events["refusals"] | events["malformed"] | (np.arange(requests) % 20 == 19)
    for at in np.flatnonzero(moved):
        tallies = [_tally(arm, int(at), release) for arm, release in zip(arms, (_OLD, _NEW), strict=True)]
        if evaluate_guards(_ROLLOUT, tallies, _NOW).action is RolloutAction.ROLL_BACK:
            return {"in_all": int(at) + 1, "to_release": tallies[1].requests}
    return None


def _running(events: dict[str, Any], values: dict[str, Any], mine: Any) -> dict[str, Any]:
    """Sums so far of one arm, after each request."""
    told = {"units": np.cumsum(mine)} | {name: np.cumsum(found & mine) for name, found in events.items()}
    for name, found in values.items():
        known = mine & ~np.isnan(found) & ~(events["errors"] | events["refusals"] if name != "feedback" else np.zeros_like(mine))
        kept = np.where(known, found, 0.0)
        told[name] = (np.cumsum(known), np.cumsum(kept), np.cumsum(kept**2))
    return told


def _tally(arm: dict[str, Any], at: int, release: str) -> ArmTally:
    sums = {name: Sums(n=int(arm[name][0][at]), total=float(arm[name][1][at]), squares=float(arm[name][2][at])) for name in _MEANS}
    counts = {name: int(arm[name][at]) for name in ("errors", "refusals", "malformed")}
    return ArmTally.model_validate(
        {"version": 1, "release": release, "shadow": False, "units": int(arm["units"][at]), "requests": int(arm["units"][at])}
        | counts
        | sums
    )


_MEANS = ("latency", "cost", "feedback")
