"""Live KPIs: what users say during a rollout stands between a release and all of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.serving import make_release
from support.usecases import VIEWER, on_both_databases, somebody
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.deployment import Alias, AliasTarget, RequestRow
from tailorbird.domain.errors import Conflict, InvalidInput
from tailorbird.domain.feedback import FeedbackGiven, FeedbackKind
from tailorbird.domain.objective import Business, DataOrigin, DataSource, Kpi, LiveKpi, Objective, RiskTier, Task, TaskKind
from tailorbird.domain.release import Release, ReleaseState
from tailorbird.domain.rollout import Rollout, RolloutPlan, RolloutState, RolloutStep
from tailorbird.usecases import Dependencies
from tailorbird.usecases.feedback import give_feedback
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.releases.promotion import promote
from tailorbird.usecases.releases.release_queries import live_report
from tailorbird.usecases.releases.rollouts import Decision, decide_rollout, show_rollout, watch_rollouts
from usecases.test_rollouts import Desk, _agree

PLAN = RolloutPlan(steps=(RolloutStep(share=0.3, requests=10, minutes=0), RolloutStep(share=0.5, requests=20, minutes=0)))
THUMBS = LiveKpi(metric="thumbs", target=0.8)


@pytest.fixture(autouse=True)
def approved(monkeypatch: pytest.MonkeyPatch) -> None:
    """These releases were never approved by anybody: approvals have tests of their own (test_promotion.py)."""
    monkeypatch.setattr("tailorbird.usecases.releases.rollouts.demand_approved", lambda *_: None)


def objective(*kpis: LiveKpi) -> Objective:
    source = DataSource(path="rows.csv", source=DataOrigin(origin="us", license="CC0-1.0"))
    return Objective(
        name="routing",
        tenant="acme",
        business=Business(goal="g", owner="o", risk=RiskTier.LIMITED),
        task=Task(kind=TaskKind.CLASSIFY, instruction="Classify."),
        data=(source,),
        kpis=(Kpi(metric="accuracy", target=0.5),),
        live_kpis=kpis,
    )


def _of(release: Release, asked: Objective) -> Release:
    content = release.content.model_copy(update={"objective": digest_of(asked), "risk": asked.business.risk})
    dossier = release.dossier.model_copy(update={"release": digest_of(content)})
    return release.model_copy(update={"digest": digest_of(content), "content": content, "dossier": dossier})


def furnished(deps: Dependencies, *kpis: LiveKpi) -> Desk:
    now, asked = deps.clock.now(), objective(*kpis)
    old, new = (_of(make_release("acme", n, TaskKind.CLASSIFY, now), asked) for n in (1, 2))
    with deps.ledger.work("acme") as work:
        work.records.put(asked)
        work.releases.add(old)
        work.releases.add(new.model_copy(update={"state": ReleaseState.STAGED}))
        work.aliases.put(Alias(tenant="acme", name="routing", targets=(AliasTarget(release=old.digest),), moved_at=now, moved_by="olga"))
    return Desk(deps, act_as(deps, "acme", "operator"), old, new, count())


def say(desk: Desk, rows: list[RequestRow], value: str, kind: FeedbackKind = FeedbackKind.THUMB, source: str = "key") -> None:
    for row in rows:
        give_feedback(desk.deps, somebody(source), FeedbackGiven(request=row.id, kind=kind, value=value))


def through(desk: Desk, begun: Rollout) -> list[RequestRow]:
    """Both steps with enough requests; the rows that the new release answered."""
    rows = []
    for share in (0.3, 0.5):
        rows += [row for row in desk.serve(round(40 * (1 - share) / share), 40) if row.release == desk.new.digest]
        if share == 0.3:
            assert watch_rollouts(desk.deps) == 1
    return rows


def test_without_proof_the_last_step_holds_and_says_how_many_are_missing(deps: Dependencies) -> None:
    desk = furnished(deps, THUMBS)
    begun = desk.start(PLAN)
    assert begun.live_kpis == (THUMBS,)
    rows = through(desk, begun)
    say(desk, rows[:10], "up")
    assert watch_rollouts(deps) == 1
    held = desk.now(begun)
    assert held.state is RolloutState.HELD
    assert held.finished
    assert "thumbs 1.000" in held.history[-1].reason
    (live,) = show_rollout(deps, VIEWER, begun.id).judgement.live
    assert (live.standing, live.units, live.value) == ("open", 10, 1.0)
    assert live.needed is not None
    assert f"about {live.needed} more users" in held.history[-1].reason
    more = [row for row in desk.serve(live.needed, live.needed) if row.release == desk.new.digest]
    say(desk, more[:-1], "up")
    assert show_rollout(deps, VIEWER, begun.id).judgement.live[0].standing == "open"
    say(desk, more[-1:], "up")
    assert show_rollout(deps, VIEWER, begun.id).judgement.live[0].standing == "proven"
    assert decide_rollout(deps, desk.operator, begun.id, "promote", "").state is RolloutState.PROMOTED
    (event,) = desk.events("rollout.promoted")
    assert event["live.thumbs"] == "proven"
    assert "override" not in event


def test_with_proof_it_goes_into_production_by_itself(deps: Dependencies) -> None:
    desk = furnished(deps, THUMBS, LiveKpi(metric="csat", target=0.5), LiveKpi(metric="outcome", target=0.5))
    begun = desk.start(PLAN)
    rows = through(desk, begun)
    say(desk, rows, "up")
    say(desk, rows, "4", FeedbackKind.CSAT)
    say(desk, rows, "good", FeedbackKind.OUTCOME)
    assert watch_rollouts(deps) == 1
    assert desk.now(begun).state is RolloutState.PROMOTED
    assert {one.metric: one.standing for one in live_report(deps, VIEWER, desk.new.digest).kpis} == dict.fromkeys(
        ("thumbs", "csat", "outcome"), "proven"
    )


def test_a_release_that_is_proven_to_miss_is_held_at_any_step(deps: Dependencies) -> None:
    desk = furnished(deps, THUMBS)
    begun = desk.start(PLAN)
    rows = [row for row in desk.serve(70, 30) if row.release == desk.new.digest]
    say(desk, rows[:5], "up")
    say(desk, rows[5:], "down")
    assert watch_rollouts(deps) == 1
    held = desk.now(begun)
    assert (held.state, held.step, held.finished) == (RolloutState.HELD, 0, False)
    assert "proven to miss 0.8" in held.history[-1].reason


def test_an_override_needs_a_reason_and_is_kept(deps: Dependencies) -> None:
    desk = furnished(deps, THUMBS)
    begun = desk.start(PLAN)
    through(desk, begun)
    assert watch_rollouts(deps) == 1
    with pytest.raises(Conflict, match="nobody has said anything yet; at least") as refused:
        decide_rollout(deps, desk.operator, begun.id, "promote", "we want it")
    assert refused.value.error_code == "conflict"
    assert "promote_unproven --reason" in refused.value.hint
    with pytest.raises(InvalidInput) as silent:
        decide_rollout(deps, desk.operator, begun.id, "promote_unproven", "  ")
    assert silent.value.error_code == "invalid_input"
    assert desk.now(begun).state is RolloutState.HELD
    moved = decide_rollout(deps, desk.operator, begun.id, "promote_unproven", "nobody marks answers here")
    assert moved.state is RolloutState.PROMOTED
    assert moved.history[-1].reason == "nobody marks answers here"
    (event,) = desk.events("rollout.promoted")
    assert (event["override"], event["live.thumbs"], event["live.thumbs.users"]) == ("live_kpis", "open", 0)


def test_a_release_with_live_kpis_is_not_promoted_past_its_rollout_unless_it_is_the_first(deps: Dependencies) -> None:
    asked = objective(THUMBS).model_copy(update={"business": Business(goal="g", owner="o", risk=RiskTier.MINIMAL)})
    now = deps.clock.now()
    old, new = (_of(make_release("acme", n, TaskKind.CLASSIFY, now), asked) for n in (1, 2))
    with deps.ledger.work("acme") as work:
        work.records.put(asked)
        work.releases.add(old)
        work.releases.add(new.model_copy(update={"state": ReleaseState.STAGED}))
        work.aliases.put(Alias(tenant="acme", name="routing", targets=(AliasTarget(release=old.digest),), moved_at=now, moved_by="olga"))
    with pytest.raises(Conflict, match=r"live KPIs \(thumbs\)") as refused:
        promote(deps, act_as(deps, "acme", "operator"), new.digest)
    assert refused.value.error_code == "rollout_needed"
    assert "rollout start" in refused.value.hint


@on_both_databases
def test_only_what_is_said_of_the_candidates_answers_in_this_rollout_counts_and_each_user_once(deps: Dependencies) -> None:
    desk = furnished(deps, THUMBS)
    early = desk.serve(1, 1)
    say(desk, early, "up")
    deps.clock.advance(timedelta(minutes=1))  # type: ignore[attr-defined]
    begun = desk.start(PLAN)
    flood = [row for row in desk.serve(50, 40, unit="one user") if row.release == desk.new.digest]
    say(desk, flood, "up")
    rows = desk.serve(10, 10)
    say(desk, [row for row in rows if row.release == desk.old.digest], "up")
    mine = [row for row in rows if row.release == desk.new.digest]
    say(desk, mine, "down")
    say(desk, mine, "up")  # said again: takes the place of what was said before
    say(desk, mine[:4], "down", source="another")  # of one answer, two speak: it counts once, in the middle
    say(desk, [row for row in desk.serve(0, 5, shadow=True) if row.release == desk.new.digest], "up")
    (live,) = show_rollout(deps, VIEWER, begun.id).judgement.live
    assert (live.units, live.said) == (11, 50)
    assert live.value == pytest.approx((1 + 6 + 4 * 0.5) / 11)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.sampled_from(["watch", "serve", "praise", "blame", "hold", "resume", "roll_back", "promote", "promote_unproven"]), max_size=14
    )
)
def test_whatever_happens_nobody_answers_alone_without_proof_or_an_override_on_record(
    another_parts: Callable[[], Dependencies], acts: list[str]
) -> None:
    desk = furnished(another_parts(), THUMBS)
    begun = desk.start(PLAN)
    for act in acts:
        before = show_rollout(desk.deps, VIEWER, begun.id)
        try:
            if act == "watch":
                watch_rollouts(desk.deps)
            elif act in ("serve", "praise", "blame"):
                rows = [row for row in desk.serve(30, 30) if row.release == desk.new.digest]
                say(desk, rows if act != "serve" else [], "down" if act == "blame" else "up")
            else:
                decision: Decision = act  # type: ignore[assignment]
                decide_rollout(desk.deps, desk.operator, begun.id, decision, "because" if act == "promote_unproven" else "")
        except Conflict:
            pass
        now = desk.now(begun)
        _agree(desk, now)
        if now.state is RolloutState.PROMOTED and before.rollout.is_open:
            proven = all(live.standing == "proven" for live in before.judgement.live)
            assert proven or desk.events("rollout.promoted")[-1].get("override") == "live_kpis"
