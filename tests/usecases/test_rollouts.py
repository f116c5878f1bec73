"""A progressive rollout: from a plan to production, or back by itself; what each tier demands; what the log keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.doubles import FixedClock, MemoryNotifier
from support.ledger_samples import request as a_request
from support.serving import make_release
from support.usecases import VIEWER, on_both_databases, somebody
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.deployment import SHADOW, Alias, AliasTarget, RequestRow, shadow_id
from tailorbird.domain.errors import Conflict, InvalidInput
from tailorbird.domain.feedback import FeedbackGiven, FeedbackKind
from tailorbird.domain.identity import Role
from tailorbird.domain.objective import Business, DataOrigin, DataSource, Kpi, LiveKpi, Objective, RiskTier, Task, TaskKind
from tailorbird.domain.release import Release, ReleaseState
from tailorbird.domain.rollout import (
    GuardName,
    Rollout,
    RolloutPlan,
    RolloutState,
    RolloutStep,
)
from tailorbird.usecases import Actor, Dependencies
from tailorbird.usecases.feedback import give_feedback
from tailorbird.usecases.identities import act_as, initialise
from tailorbird.usecases.releases import rollouts as drill
from tailorbird.usecases.releases.promotion import AliasMove, promote
from tailorbird.usecases.releases.release_queries import live_report
from tailorbird.usecases.releases.rollouts import Decision, decide_rollout, show_rollout, start_rollout, watch_rollouts

PLAN = RolloutPlan(
    steps=(
        RolloutStep(kind="shadow", requests=20, minutes=0),
        RolloutStep(share=0.25, requests=40, minutes=0),
        RolloutStep(share=0.5, requests=60, minutes=0),
    )
)


@pytest.fixture(autouse=True)
def approved(monkeypatch: pytest.MonkeyPatch) -> None:
    """These releases were never approved by anybody: approvals have tests of their own (test_promotion.py)."""
    monkeypatch.setattr("tailorbird.usecases.releases.rollouts.demand_approved", lambda *_: None)


@dataclass
class Desk:
    """An alias with a release in production, and another that is staged."""

    deps: Dependencies
    operator: Actor
    old: Release
    new: Release
    numbers: Iterator[int]

    @property
    def alias(self) -> Alias:
        with self.deps.ledger.work("acme", write=False) as work:
            return work.aliases.get("routing")

    def state(self, release: Release) -> ReleaseState:
        with self.deps.ledger.work("acme", write=False) as work:
            return work.releases.get(release.digest).state

    def start(self, plan: RolloutPlan = PLAN) -> Rollout:
        return start_rollout(self.deps, self.operator, self.new.digest, plan)

    def promote(self) -> AliasMove:
        """Without a rollout."""
        with patch("tailorbird.usecases.releases.rules.demand_approved"):
            return promote(self.deps, self.operator, self.new.digest)

    def answer(self, *releases: Release) -> None:
        """Sets what answers the name."""
        with self.deps.ledger.work("acme") as work:
            targets = tuple(AliasTarget(release=release.digest) for release in releases)
            work.aliases.put(self.alias.model_copy(update={"targets": targets, "version": self.alias.version + 1}))

    def advance(self, by: timedelta) -> None:
        clock = self.deps.clock
        assert isinstance(clock, FixedClock)
        clock.advance(by)

    def now(self, rollout: Rollout) -> Rollout:
        with self.deps.ledger.work("acme", write=False) as work:
            return work.rollouts.get(rollout.id)

    def serve(self, old: int, new: int, *, shadow: bool = False, **of_new: object) -> list[RequestRow]:
        """Rows as the gateway would leave them under the alias as it stands; in the shadow the first ``new`` are mirrored."""
        rows = [self._row(self.old, "a") for _ in range(old)]
        ids = [{"id": shadow_id(row.id)} for row in rows[:new]] if shadow else [{}] * new
        rows += [self._row(self.new, SHADOW if shadow else "b", **each, **of_new) for each in ids]
        with self.deps.ledger.work("acme") as work:
            work.requests.add(rows)
        return rows

    def _row(self, release: Release, arm: str, **changes: object) -> RequestRow:
        number = next(self.numbers)
        usual = a_request("acme", number).model_copy(
            update={"alias": "acme/routing", "release": release.digest, "arm": arm, "latency_ms": 10.0 + number % 7, "cost": 0.001}
            | {"at": self.deps.clock.now(), "version": self.alias.version, "agrees": True if arm == SHADOW else None}
        )
        return usual.model_copy(update=changes)

    def events(self, kind: str) -> list[dict[str, object]]:
        with self.deps.ledger.work("acme", write=False) as work:
            return [entry.event.data for entry in work.events.entries() if entry.event.kind == kind]


def objective(*live: LiveKpi, risk: RiskTier = RiskTier.LIMITED) -> Objective:
    source = DataSource(path="rows.csv", source=DataOrigin(origin="written for this test", license="Apache-2.0"))
    return Objective(
        name="routing",
        tenant="acme",
        business=Business(goal="Route messages.", owner="support", risk=risk),
        task=Task(kind=TaskKind.CLASSIFY, instruction="Classify."),
        data=(source,),
        kpis=(Kpi(metric="accuracy", target=0.5),),
        live_kpis=live,
    )


def furnished(deps: Dependencies, *live: LiveKpi, risk: RiskTier = RiskTier.LIMITED) -> Desk:
    """A desk whose releases are of one objective."""
    now, asked = deps.clock.now(), objective(*live, risk=risk)
    old, new = (make_release("acme", n, TaskKind.CLASSIFY, now, objective=digest_of(asked), risk=risk) for n in (1, 2))
    with deps.ledger.work("acme") as work:
        work.records.put(asked)
        work.releases.add(old)
        work.releases.add(new.model_copy(update={"state": ReleaseState.STAGED}))
        work.aliases.put(Alias(tenant="acme", name="routing", targets=(AliasTarget(release=old.digest),), moved_at=now, moved_by="olga"))
    return Desk(deps, act_as(deps, "acme", "operator"), old, new, count())


@pytest.fixture
def furnish(deps: Dependencies) -> Callable[..., Desk]:
    return lambda risk=RiskTier.LIMITED: furnished(deps, risk=risk)


@pytest.fixture
def desk(furnish: Callable[..., Desk]) -> Desk:
    return furnish()


def test_a_release_let_in_by_degrees_is_not_promoted_past_its_rollout(desk: Desk) -> None:
    desk.start()
    before = desk.alias
    with pytest.raises(Conflict) as caught:
        promote(desk.deps, desk.operator, desk.new.digest)
    assert caught.value.error_code == "rollout_open"
    assert (desk.alias, desk.state(desk.new)) == (before, ReleaseState.ROLLING_OUT)


def test_from_shadow_to_production(desk: Desk) -> None:
    begun = desk.start()
    assert desk.alias.mirror == desk.new.digest
    assert [target.release for target in desk.alias.targets] == [desk.old.digest]
    assert desk.state(desk.new) is ReleaseState.ROLLING_OUT
    assert watch_rollouts(desk.deps) == 0
    desk.serve(20, 20, shadow=True)
    assert watch_rollouts(desk.deps) == 1
    assert desk.alias.mirror is None
    assert {t.release: t.weight for t in desk.alias.targets} == {desk.old.digest: 7500, desk.new.digest: 2500}
    desk.serve(120, 40)
    assert watch_rollouts(desk.deps) == 1
    desk.serve(60, 60)
    assert watch_rollouts(desk.deps) == 1
    assert desk.now(begun).state is RolloutState.PROMOTED
    assert [target.release for target in desk.alias.targets] == [desk.new.digest]
    assert [target.release for target in desk.alias.previous] == [desk.old.digest]
    assert (desk.state(desk.old), desk.state(desk.new)) == (ReleaseState.STAGED, ReleaseState.PRODUCTION)
    assert [passage.action.value for passage in desk.now(begun).history] == ["advance", "advance", "promote"]
    assert desk.events("rollout.promoted")[0]["errors.candidate"] == 0
    assert show_rollout(desk.deps, VIEWER, begun.id).judgement.agreement == 1.0


def test_few_mirrored_requests_hold_a_shadow_step_until_somebody_resumes_it(desk: Desk) -> None:
    begun = desk.start()
    desk.serve(60, 20, shadow=True)
    assert watch_rollouts(desk.deps) == 1, "the step would have passed on a third of what users asked"
    judged = show_rollout(desk.deps, VIEWER, begun.id).judgement
    assert (desk.now(begun).state, judged.too_few_mirrored, judged.mirrored) == (RolloutState.HELD, True, pytest.approx(1 / 3))
    assert desk.events("rollout.held")[0]["mirrored"] == pytest.approx(1 / 3, abs=1e-6)
    resumed = decide_rollout(desk.deps, desk.operator, begun.id, "resume", "the engine has another replica")
    assert resumed.counted_from == desk.alias.version
    assert desk.alias.mirror == desk.new.digest
    assert watch_rollouts(desk.deps) == 0
    desk.serve(24, 20, shadow=True)
    assert watch_rollouts(desk.deps) == 1
    assert (desk.now(begun).state, desk.now(begun).step) == (RolloutState.RUNNING, 1)


def test_a_breached_guard_takes_it_back_by_itself(desk: Desk) -> None:
    begun = desk.start(RolloutPlan(steps=(RolloutStep(share=0.5, requests=1000),)))
    desk.serve(60, 40)
    assert watch_rollouts(desk.deps) == 0
    desk.serve(0, 20, status=500, outcome="error", error="internal")
    assert watch_rollouts(desk.deps) == 1
    ended = desk.now(begun)
    assert ended.state is RolloutState.ROLLED_BACK
    assert "guard on errors" in ended.history[-1].reason
    assert desk.alias.targets == (AliasTarget(release=desk.old.digest),)
    assert desk.state(desk.new) is ReleaseState.RETIRED
    assert desk.state(desk.old) is ReleaseState.PRODUCTION
    (told,) = desk.events("rollout.rolled_back")
    assert told["errors.candidate"] == pytest.approx(1 / 3, abs=1e-6)
    assert watch_rollouts(desk.deps) == 0


@pytest.mark.parametrize(
    ("changes", "guard"),
    [
        ({"latency_ms": 100.0}, GuardName.LATENCY),
        ({"cost": 0.1}, GuardName.COST),
        ({"malformed": True}, GuardName.FORMAT),
        ({"outcome": "refused", "status": 400, "error": "x"}, GuardName.REFUSALS),
        ({"referred": True}, GuardName.REFUSALS),
    ],
)
def test_each_guard_is_told_apart(desk: Desk, changes: dict[str, object], guard: GuardName) -> None:
    begun = desk.start(RolloutPlan(steps=(RolloutStep(share=0.5, requests=1000),)))
    desk.serve(60, 60, **changes)
    assert watch_rollouts(desk.deps) == 1
    assert f"guard on {guard.value}" in desk.now(begun).history[-1].reason


def test_what_guards_do_reaches_people(desk: Desk) -> None:
    """A rollout that is taken back, held, or without traffic is told once, to receivers and in the record."""
    heard = MemoryNotifier()
    desk.deps = replace(desk.deps, notifiers=lambda: (heard,))
    begun = desk.start(PLAN.model_copy(update={"steps": PLAN.steps[1:]}))
    desk.advance(timedelta(days=30))
    assert watch_rollouts(desk.deps) == 1
    decide_rollout(desk.deps, desk.operator, begun.id, "resume", "")
    desk.serve(200, 5)
    assert watch_rollouts(desk.deps) == 1
    decide_rollout(desk.deps, desk.operator, begun.id, "resume", "")
    desk.serve(300, 100, outcome="error", error="engine_unavailable")
    desk.serve(900, 0)
    assert watch_rollouts(desk.deps) == 1
    assert watch_rollouts(desk.deps) == 0
    with desk.deps.ledger.work("acme", write=False) as work:
        kept = work.signals.latest()
    names = ["rollout.inconclusive", "rollout.held", "rollout.rolled_back"]
    assert [signal.name for signal in reversed(kept)] == names
    assert [message["signals"][0]["name"] for message in heard.sent] == names
    assert kept[0].release == desk.new.digest


def test_users_that_are_not_divided_as_asked_hold_it(desk: Desk) -> None:
    begun = desk.start(RolloutPlan(steps=(RolloutStep(share=0.5, requests=1000),)))
    desk.serve(20, 200)
    assert watch_rollouts(desk.deps) == 1
    assert desk.now(begun).state is RolloutState.HELD
    desk.serve(0, 30, outcome="error", status=500)
    desk.serve(180, 0)
    assert watch_rollouts(desk.deps) == 1, "guards watch while it is held"
    assert desk.now(begun).state is RolloutState.ROLLED_BACK


def test_too_little_traffic_is_inconclusive_and_a_person_decides(desk: Desk) -> None:
    begun = desk.start(RolloutPlan(steps=(RolloutStep(share=0.5, requests=1000),), patience_hours=1))
    desk.deps.clock.advance(timedelta(hours=2))  # type: ignore[attr-defined]
    assert watch_rollouts(desk.deps) == 1
    assert desk.now(begun).state is RolloutState.INCONCLUSIVE
    with pytest.raises(Conflict) as refused:
        decide_rollout(desk.deps, desk.operator, begun.id, "promote", "")
    assert refused.value.error_code == "conflict"
    assert decide_rollout(desk.deps, desk.operator, begun.id, "resume", "wait longer").state is RolloutState.RUNNING
    assert decide_rollout(desk.deps, desk.operator, begun.id, "roll_back", "enough").state is RolloutState.ROLLED_BACK
    assert desk.state(desk.new) is ReleaseState.STAGED


def drilled(desk: Desk) -> Actor:
    """A second operator, who has drilled the new release."""
    initialise(desk.deps, "acme", {"second": frozenset({Role.OPERATOR})})
    second = act_as(desk.deps, "acme", "second")
    with desk.deps.ledger.system() as system:
        system.gateways.beat("g", 10**6, desk.deps.clock.now())
    assert drill.drill_release(desk.deps, second, desk.new.digest).gateways == 1
    return second


def test_a_high_tier_demands_a_drill_and_two_operators(furnish: Callable[..., Desk]) -> None:
    desk = furnish(RiskTier.HIGH)
    with pytest.raises(Conflict) as refused:
        desk.start()
    assert refused.value.error_code == "drill_needed"
    assert desk.events("release.change_asked") == [], "nobody's word is taken for what cannot be done"
    second = drilled(desk)
    for _ in range(2):
        with pytest.raises(Conflict) as refused:
            desk.start()
        assert refused.value.error_code == "second_operator", "the same operator twice is one operator"
    desk.operator = second
    assert desk.start().state is RolloutState.RUNNING


def test_an_operators_word_is_for_one_change_once(furnish: Callable[..., Desk]) -> None:
    """Not for another plan than they saw, and not for a second start after the release was taken back."""
    desk = furnish(RiskTier.HIGH)
    first, second = desk.operator, drilled(desk)
    at_once = RolloutPlan(steps=(RolloutStep(share=0.9, requests=1, minutes=0),))
    for operator, plan in ((first, RolloutPlan()), (second, at_once)):
        desk.operator = operator
        with pytest.raises(Conflict) as refused:
            desk.start(plan)
        assert refused.value.error_code == "second_operator"
    begun = desk.start(RolloutPlan())
    decide_rollout(desk.deps, first, begun.id, "roll_back", "worse")
    with pytest.raises(Conflict) as refused:
        desk.start(RolloutPlan())
    assert refused.value.error_code == "second_operator"
    desk.operator = first
    again = desk.start(RolloutPlan())
    given = len(desk.events("release.change_asked"))
    with pytest.raises(Conflict) as refused:
        decide_rollout(desk.deps, second, again.id, "promote", "now")
    assert refused.value.error_code == "conflict"
    assert len(desk.events("release.change_asked")) == given


def test_a_word_names_the_whole_plan(furnish: Callable[..., Desk]) -> None:
    """Of a beginning of its digest somebody finds a second plan in seconds: one is shown to the first operator, the other is run."""
    desk = furnish(RiskTier.HIGH)
    drilled(desk)
    with pytest.raises(Conflict):
        desk.start()
    assert [asked["change"] for asked in desk.events("release.change_asked")] == [f"rollout {digest_of(PLAN)}"]


def refusal(desk: Desk, ask: Callable[[], object]) -> str:
    with pytest.raises(Conflict) as refused:
        ask()
    return refused.value.error_code


@pytest.mark.parametrize(("later", "holds"), [(timedelta(hours=24), True), (timedelta(hours=24, seconds=1), False)])
def test_a_word_holds_for_a_day(furnish: Callable[..., Desk], later: timedelta, holds: bool) -> None:
    desk = furnish(RiskTier.HIGH)
    second = drilled(desk)
    assert refusal(desk, desk.start) == "second_operator"
    desk.advance(later)
    desk.operator = second
    if holds:
        assert desk.start().state is RolloutState.RUNNING
    else:
        assert refusal(desk, desk.start) == "second_operator"


@pytest.mark.parametrize(("later", "code"), [(timedelta(days=30), "second_operator"), (timedelta(days=30, seconds=1), "drill_needed")])
def test_a_drill_holds_for_thirty_days(furnish: Callable[..., Desk], later: timedelta, code: str) -> None:
    desk = furnish(RiskTier.HIGH)
    drilled(desk)
    desk.advance(later)
    assert refusal(desk, desk.start) == code


# --- live KPIs: what users say stands between a release and all of them

TWO_STEPS = RolloutPlan(steps=(RolloutStep(share=0.3, requests=10, minutes=0), RolloutStep(share=0.5, requests=20, minutes=0)))
THUMBS = LiveKpi(metric="thumbs", target=0.8)


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
    begun = desk.start(TWO_STEPS)
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
    begun = desk.start(TWO_STEPS)
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
    begun = desk.start(TWO_STEPS)
    rows = [row for row in desk.serve(70, 30) if row.release == desk.new.digest]
    say(desk, rows[:5], "up")
    say(desk, rows[5:], "down")
    assert watch_rollouts(deps) == 1
    held = desk.now(begun)
    assert (held.state, held.step, held.finished) == (RolloutState.HELD, 0, False)
    assert "proven to miss 0.8" in held.history[-1].reason


def test_an_override_needs_a_reason_and_is_kept(deps: Dependencies) -> None:
    desk = furnished(deps, THUMBS)
    begun = desk.start(TWO_STEPS)
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


def test_a_release_with_live_kpis_is_not_promoted_past_its_rollout(deps: Dependencies) -> None:
    desk = furnished(deps, THUMBS, risk=RiskTier.MINIMAL)
    with pytest.raises(Conflict, match=r"live KPIs \(thumbs\)") as refused:
        promote(deps, desk.operator, desk.new.digest)
    assert (refused.value.error_code, "rollout start" in refused.value.hint) == ("rollout_needed", True)


@on_both_databases
def test_only_what_is_said_of_the_candidates_answers_in_this_rollout_counts_and_each_user_once(deps: Dependencies) -> None:
    desk = furnished(deps, THUMBS)
    early = desk.serve(1, 1)
    say(desk, early, "up")
    deps.clock.advance(timedelta(minutes=1))  # type: ignore[attr-defined]
    begun = desk.start(TWO_STEPS)
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


ACTS = ("watch", "serve", "fail", "praise", "blame", "hold", "resume", "roll_back", "promote", "promote_unproven")


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.sampled_from(ACTS), max_size=14))
def test_whatever_happens_nobody_answers_alone_without_proof_or_an_override_on_record(
    another_parts: Callable[[], Dependencies], acts: list[str]
) -> None:
    desk = furnished(another_parts(), THUMBS)
    begun = desk.start(TWO_STEPS)
    for act in acts:
        before = show_rollout(desk.deps, VIEWER, begun.id)
        try:
            if act == "watch":
                watch_rollouts(desk.deps)
            elif act in ("serve", "fail", "praise", "blame"):
                broken = {"outcome": "error", "status": 500} if act == "fail" else {}
                rows = [row for row in desk.serve(30, 30, **broken) if row.release == desk.new.digest]
                say(desk, rows if act in ("praise", "blame") else [], "down" if act == "blame" else "up")
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


def _agree(desk: Desk, rollout: Rollout) -> None:
    """Alias, releases and rollout are of one mind."""
    targets = [target.release for target in desk.alias.targets]
    old, new = desk.state(desk.old), desk.state(desk.new)
    if rollout.is_open:
        assert (targets, old, new) == ([desk.old.digest, desk.new.digest], ReleaseState.PRODUCTION, ReleaseState.ROLLING_OUT)
    elif rollout.state is RolloutState.PROMOTED:
        assert (targets, old, new) == ([desk.new.digest], ReleaseState.STAGED, ReleaseState.PRODUCTION)
    else:
        assert (targets, old) == ([desk.old.digest], ReleaseState.PRODUCTION)
        assert new in (ReleaseState.STAGED, ReleaseState.RETIRED)
