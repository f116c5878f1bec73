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
from support.serving import make_release
from support.usecases import VIEWER
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.deployment import SHADOW, Alias, AliasTarget, RequestRow, shadow_id
from tailorbird.domain.errors import Conflict
from tailorbird.domain.identity import Role
from tailorbird.domain.objective import Business, DataOrigin, DataSource, Kpi, Objective, RiskTier, Task, TaskKind
from tailorbird.domain.release import Release, ReleaseState
from tailorbird.domain.rollout import (
    OPEN,
    TRANSITIONS,
    GuardName,
    Rollout,
    RolloutAction,
    RolloutPlan,
    RolloutState,
    RolloutStep,
    next_rollout_state,
)
from tailorbird.usecases import Actor, Dependencies
from tailorbird.usecases.identities import act_as, initialise
from tailorbird.usecases.releases import rollouts as drill
from tailorbird.usecases.releases.promotion import AliasMove, promote
from tailorbird.usecases.releases.rollouts import Decision, decide_rollout, show_rollout, start_rollout, watch_rollouts

PLAN = RolloutPlan(
    steps=(
        RolloutStep(kind="shadow", requests=20, minutes=0),
        RolloutStep(share=0.25, requests=40, minutes=0),
        RolloutStep(share=0.5, requests=60, minutes=0),
    )
)


OBJECTIVE = Objective(
    name="routing",
    tenant="acme",
    business=Business(goal="Route messages.", owner="support", risk=RiskTier.LIMITED),
    task=Task(kind=TaskKind.CLASSIFY, instruction="Classify."),
    data=(DataSource(path="rows.csv", source=DataOrigin(origin="written for this test", license="Apache-2.0")),),
    kpis=(Kpi(metric="accuracy", target=0.8),),
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
        usual = RequestRow(
            id=f"req_{number}", tenant="acme", key="k", alias="acme/routing", release=release.digest, arm=arm, route="/v1", status=200,
            outcome="ok", error=None, prediction="refund", prompt_tokens=3, completion_tokens=0, latency_ms=10.0 + number % 7,
            at=self.deps.clock.now(), version=self.alias.version, agrees=True if arm == SHADOW else None, cost=0.001,
        )  # fmt: skip
        return usual.model_copy(update=changes)

    def events(self, kind: str) -> list[dict[str, object]]:
        with self.deps.ledger.work("acme", write=False) as work:
            return [entry.event.data for entry in work.events.entries() if entry.event.kind == kind]


def of_tier(release: Release, risk: RiskTier) -> Release:
    content = release.content.model_copy(update={"risk": risk, "objective": digest_of(OBJECTIVE)})
    dossier = release.dossier.model_copy(update={"release": digest_of(content)})
    return release.model_copy(update={"digest": digest_of(content), "content": content, "dossier": dossier})


@pytest.fixture
def furnish(deps: Dependencies) -> Callable[..., Desk]:
    def make(risk: RiskTier = RiskTier.LIMITED) -> Desk:
        now = deps.clock.now()
        old, new = (of_tier(make_release("acme", n, TaskKind.CLASSIFY, now), risk) for n in (1, 2))
        with deps.ledger.work("acme") as work:
            work.records.put(OBJECTIVE)
            work.releases.add(old)
            work.releases.add(new.model_copy(update={"state": ReleaseState.STAGED}))
            work.aliases.put(
                Alias(tenant="acme", name="routing", targets=(AliasTarget(release=old.digest),), moved_at=now, moved_by="olga")
            )
        return Desk(deps, act_as(deps, "acme", "operator"), old, new, count())

    return make


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


def test_requests_of_one_user_count_once(desk: Desk) -> None:
    begun = desk.start(RolloutPlan(steps=(RolloutStep(share=0.5, requests=1000),)))
    desk.serve(60, 60)
    desk.serve(0, 40, outcome="error", status=500, unit="the same user")
    assert watch_rollouts(desk.deps) == 0
    errors = show_rollout(desk.deps, VIEWER, begun.id).judgement.guards[0]
    assert errors.candidate == pytest.approx(1 / 61)


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


def test_one_rollout_of_a_name_at_a_time(desk: Desk) -> None:
    desk.start()
    with pytest.raises(Conflict):
        desk.start()


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


def test_a_rollout_whose_users_were_divided_wrongly_goes_on_with_what_comes_after_somebody_resumes_it(desk: Desk) -> None:
    begun = desk.start(RolloutPlan(steps=(RolloutStep(share=0.5, requests=60, minutes=0),), then="hold"))
    desk.serve(old=400, new=100)
    watch_rollouts(desk.deps)
    held = desk.now(begun)
    assert (held.state, show_rollout(desk.deps, desk.operator, begun.id).judgement.sample_ratio_broken) == (RolloutState.HELD, True)
    resumed = decide_rollout(desk.deps, desk.operator, begun.id, "resume", "the balancer had kept every fifth user apart")
    assert resumed.counted_from == desk.alias.version
    assert [target.weight for target in desk.alias.targets] == [5_000, 5_000]
    watch_rollouts(desk.deps)
    assert desk.now(begun).state is RolloutState.RUNNING, "nothing is held against it any more"
    desk.serve(old=30, new=31)
    shown = show_rollout(desk.deps, desk.operator, begun.id).judgement
    assert (shown.sample_ratio_broken, shown.requests, shown.incumbent_requests) == (False, 31, 30)
    desk.serve(old=30, new=31)
    watch_rollouts(desk.deps)
    assert desk.now(begun).finished
    promoted = decide_rollout(desk.deps, desk.operator, begun.id, "promote", "as good")
    assert promoted.state is RolloutState.PROMOTED
    desk.serve(old=0, new=50)
    assert show_rollout(desk.deps, desk.operator, begun.id).judgement.requests == 62, "it counts to its end and no further"


@given(st.lists(st.sampled_from(RolloutAction), max_size=12))
def test_the_state_machine_ends_where_it_ends(actions: list[RolloutAction]) -> None:
    state = RolloutState.RUNNING
    for action in actions:
        try:
            after = next_rollout_state(state, action)
        except Conflict:
            assert (state, action) not in TRANSITIONS
            continue
        assert state in OPEN, "a final state was left"
        state = after


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.sampled_from(["watch", "serve", "fail", "hold", "resume", "roll_back", "promote"]), min_size=1, max_size=10))
def test_whatever_happens_exactly_one_release_is_whole_and_the_other_is_out(
    another_parts: Callable[[], Dependencies], acts: list[str]
) -> None:
    """Alias, releases and rollout are of one mind after any sequence of looks, traffic and decisions."""
    deps, now = another_parts(), None
    now = deps.clock.now()
    old, new = (of_tier(make_release("acme", n, TaskKind.CLASSIFY, now), RiskTier.LIMITED) for n in (1, 2))
    with deps.ledger.work("acme") as work:
        work.records.put(OBJECTIVE)
        work.releases.add(old)
        work.releases.add(new.model_copy(update={"state": ReleaseState.STAGED}))
        work.aliases.put(Alias(tenant="acme", name="routing", targets=(AliasTarget(release=old.digest),), moved_at=now, moved_by="olga"))
    desk = Desk(deps, act_as(deps, "acme", "operator"), old, new, count())
    begun = desk.start(RolloutPlan(steps=(RolloutStep(share=0.5, requests=20, minutes=0), RolloutStep(share=0.6, requests=20, minutes=0))))
    for act in acts:
        _perform(desk, begun, act)
        _agree(desk, desk.now(begun))


def _perform(desk: Desk, begun: Rollout, act: str) -> None:
    try:
        if act == "watch":
            watch_rollouts(desk.deps)
        elif act in ("serve", "fail"):
            desk.serve(20, 20, **({"outcome": "error", "status": 500} if act == "fail" else {}))
        else:
            decision: Decision = act  # type: ignore[assignment]
            decide_rollout(desk.deps, desk.operator, begun.id, decision, "")
    except Conflict:
        return


def _agree(desk: Desk, rollout: Rollout) -> None:
    targets = [target.release for target in desk.alias.targets]
    states = {desk.old.digest: desk.state(desk.old), desk.new.digest: desk.state(desk.new)}
    if rollout.is_open:
        assert targets == [desk.old.digest, desk.new.digest]
        assert states == {desk.old.digest: ReleaseState.PRODUCTION, desk.new.digest: ReleaseState.ROLLING_OUT}
    elif rollout.state is RolloutState.PROMOTED:
        assert targets == [desk.new.digest]
        assert states == {desk.old.digest: ReleaseState.STAGED, desk.new.digest: ReleaseState.PRODUCTION}
    else:
        assert targets == [desk.old.digest]
        assert states[desk.old.digest] is ReleaseState.PRODUCTION
        assert states[desk.new.digest] in (ReleaseState.STAGED, ReleaseState.RETIRED)
