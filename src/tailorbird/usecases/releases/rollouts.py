"""Progressive rollouts: steps, guards, taking a release back by itself; and rollback drills."""

from __future__ import annotations

import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Annotated, Literal

from pydantic import Field

from tailorbird.auth import Action
from tailorbird.crypto.canonical_json import digest_of, short
from tailorbird.domain.deployment import Alias, AliasTarget, alias_path
from tailorbird.domain.errors import Conflict, Corrupt, Forbidden, InvalidInput, NotFound, TailorbirdError, Unavailable
from tailorbird.domain.feedback import Severity, Signal, SignalName
from tailorbird.domain.objective import RiskTier
from tailorbird.domain.release import Release, ReleaseAction, ReleaseState, next_state
from tailorbird.domain.rollout import (
    GuardReport,
    LiveFinding,
    Rollout,
    RolloutAction,
    RolloutPlan,
    RolloutState,
    RolloutStep,
    Votes,
)
from tailorbird.domain.value import Digest, Value
from tailorbird.ledger import UnitOfWork
from tailorbird.monitoring.alerts import alert_message
from tailorbird.release import AliasTrial, promoted, restored, with_trial
from tailorbird.serving.reconciler import GONE_AFTER
from tailorbird.serving.rollout_guards import evaluate_guards, live_findings, unproven_kpis
from tailorbird.usecases.audit_events import Facts, record, remark
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.each_tenant import for_each_tenant
from tailorbird.usecases.maintenance.audit import demand_no_fork
from tailorbird.usecases.registry import PageSize, Reason, ReleaseDigest, usecase
from tailorbird.usecases.releases.rules import demand_approved, demand_drill, demand_ranker, live_kpis_of, rule_of, wait_for_operators


def send_alerts(deps: Dependencies, told: Sequence[Signal]) -> int:
    """Sends ``told`` to every notifier; returns how many could not be reached. The signals are in the record whoever is reached."""
    undelivered = 0
    for notifier in deps.notifiers() if told else ():
        try:
            notifier.send(alert_message(told))
        except Unavailable:
            undelivered += 1
    return undelivered


_log = logging.getLogger("tailorbird.rollouts")

RolloutId = Annotated[str, Field(pattern=r"^[0-9a-f]{1,12}$", description="Id of the rollout, or how it begins.")]
#: The way to production where nothing else is said.
_USUAL_PLAN = RolloutPlan()
#: Who acts when a guard does.
GUARDS = "guards"
#: The newest rollouts of a tenant that are counted.
_COUNTED = 1000
#: Decisions of people.
Decision = Literal["hold", "resume", "advance", "roll_back", "promote", "promote_unproven"]
#: What gives a release more of the users.
_FORWARD = (RolloutAction.ADVANCE, RolloutAction.PROMOTE)
_DONE = {
    RolloutAction.ADVANCE: "rollout.advanced",
    RolloutAction.HOLD: "rollout.held",
    RolloutAction.DOUBT: "rollout.inconclusive",
    RolloutAction.RESUME: "rollout.resumed",
    RolloutAction.ROLL_BACK: "rollout.rolled_back",
    RolloutAction.PROMOTE: "rollout.promoted",
}
#: What is told to whoever receives alerts when guards do it.
_TOLD: dict[RolloutAction, tuple[SignalName, Severity]] = {
    RolloutAction.ROLL_BACK: ("rollout.rolled_back", Severity.ALARM),
    RolloutAction.HOLD: ("rollout.held", Severity.WARNING),
    RolloutAction.DOUBT: ("rollout.inconclusive", Severity.WARNING),
}


class RolloutReport(Value):
    """A rollout, and what its counts say now."""

    rollout: Rollout
    judgement: GuardReport


class RolloutList(Value):
    """The tenant's rollouts, newest first."""

    rollouts: tuple[Rollout, ...]


@usecase("rollout.start", "POST", "/api/rollouts", Action.ROLL_OUT)
def start_rollout(deps: Dependencies, actor: Actor, digest: ReleaseDigest, plan: RolloutPlan = _USUAL_PLAN) -> Rollout:
    """Start a guarded progressive rollout.

    The staged release answers beside the one in production. Raises Forbidden (approvals are missing), Conflict (nothing to replace,
    another rollout under way, a drill or a second operator missing).
    """
    demand_no_fork(deps)
    now = deps.clock.now()
    with deps.ledger.work(actor.tenant) as work:
        release = work.releases.get(digest)
        _demand_usable(work, release)
        demand_drill(work, release, rule_of(work, release), deps)
        trying = next_state(release.state, ReleaseAction.TRY)
        alias = {alias.name: alias for alias in work.aliases.all()}.get(release.content.objective_name)
        if alias is None or len(alias.targets) != 1:
            raise Conflict(
                f"there is nothing in production that release {short(release.digest)} could be compared with",
                f"put it before users directly: tailorbird promote {short(release.digest)}",
            )
        waiting = wait_for_operators(deps, work, actor, release, f"rollout {digest_of(plan)}")
        if waiting is None:
            rollout = Rollout(
                id=secrets.token_hex(6),
                tenant=actor.tenant,
                alias=alias.name,
                candidate=release.digest,
                incumbent=alias.targets[0].release,
                risk=release.content.risk,
                plan=plan,
                salt=secrets.token_hex(8),
                versions=(alias.version + 1,),
                step_since=now,
                started_by=actor.name,
                started_at=now,
                changed_at=now,
                live_kpis=live_kpis_of(work, release),
            )
            work.releases.move(release.digest, release.state, trying)
            work.aliases.put(with_trial(alias, _trial(rollout, plan.steps[0]), now, actor.name))
            work.rollouts.add(rollout)
            facts: Facts = {"rollout": rollout.id, "alias": alias.path, "incumbent": rollout.incumbent, "steps": len(plan.steps)}
            record(work, "rollout.started", actor.name, release.digest, now, facts)
            return rollout
    raise waiting


def _demand_usable(work: UnitOfWork, release: Release) -> None:
    """Raises Forbidden without the approvals that production needs, Conflict where the release whose encoder it borrows was taken back."""
    demand_approved(work, release)
    demand_ranker(work, release)


@usecase("rollout.decide", "POST", "/api/rollouts/{rollout}/decisions", Action.DECIDE_ROLLOUT)
def decide_rollout(deps: Dependencies, actor: Actor, rollout: RolloutId, decision: Decision, reason: Reason = "") -> Rollout:
    """Hold, resume, advance, promote (with its live KPIs proven, or without) or take back a rollout.

    ``promote_unproven`` promotes although a live KPI is not proven, for a reason that is kept. Raises NotFound, Forbidden (the release
    lacks approvals by now, and would get more users), Conflict (state; a step that has not passed; a live KPI that is not proven; a second
    operator missing), InvalidInput (an override without a reason).
    """
    override = decision == "promote_unproven"
    action = RolloutAction.PROMOTE if override else RolloutAction(decision)
    if action in _FORWARD:
        demand_no_fork(deps)
    with deps.ledger.work(actor.tenant) as work:
        found = work.rollouts.get(rollout)
        promotes, release = action is RolloutAction.PROMOTE, work.releases.get(found.candidate)
        facts = _demand_live(work, found, reason, override=override) if promotes else {}
        # Where a rollout is demanded, nobody leaves its steps out. Raises Conflict.
        early = action is RolloutAction.ADVANCE and found.risk is not RiskTier.MINIMAL
        unfinished = action is RolloutAction.PROMOTE and not found.finished and found.risk is not RiskTier.MINIMAL
        if early or unfinished:
            raise Conflict(
                f"step {found.step + 1} of {len(found.plan.steps)} has not passed",
                "wait for it (tailorbird rollout show), or take the rollout back",
            )
        if action in _FORWARD:
            _demand_usable(work, release)
        waiting = wait_for_operators(deps, work, actor, release, f"rollout {decision}") if promotes else None
        if waiting is None:
            return _do(work, found, _Act(action, actor.name, deps.clock.now(), reason, facts))
    raise waiting


@usecase("rollout.list", "GET", "/api/rollouts", Action.SHOW_RELEASE)
def list_rollouts(deps: Dependencies, actor: Actor, limit: PageSize = 50) -> RolloutList:
    """List rollouts, newest first."""
    with deps.ledger.work(actor.tenant, write=False) as work:
        return RolloutList(rollouts=work.rollouts.latest(limit))


@usecase("rollout.show", "GET", "/api/rollouts/{rollout}", Action.SHOW_RELEASE)
def show_rollout(deps: Dependencies, actor: Actor, rollout: RolloutId) -> RolloutReport:
    """Show a rollout with what its counts say.

    Raises NotFound.
    """
    now = deps.clock.now()
    with deps.ledger.work(actor.tenant, write=False) as work:
        found = work.rollouts.get(rollout)
        return RolloutReport(rollout=found, judgement=_judged(work, found, now))


def watch_rollouts(deps: Dependencies) -> int:
    """Judges every rollout that goes on, of every tenant, and does what follows. Returns how many moved.

    Of several processes that do so at once, one moves a rollout and the others find it moved. Who receives alerts is told of each that was
    taken back or needs a person, when all were judged: a receiver that does not answer keeps no guard waiting.
    """
    with deps.ledger.system(write=False) as system:
        tenants = system.aliases.rolling_out()
    told = list[Signal]()
    moved = for_each_tenant(deps, lambda tenant: _watch_tenant(deps, tenant, told), tenants)
    if undelivered := send_alerts(deps, told):
        _log.warning("rollouts: %d receivers of alerts were not reached", undelivered)
    return sum(moved.all().values())


def count_rollouts(deps: Dependencies) -> dict[RolloutState, int]:
    """How many rollouts stand where, over all tenants: of each, the newest."""

    def states(tenant: str) -> list[RolloutState]:
        with deps.ledger.work(tenant, write=False) as work:
            return [rollout.state for rollout in work.rollouts.latest(_COUNTED)]

    found = Counter(chain.from_iterable(for_each_tenant(deps, states).found.values()))
    return {state: found[state] for state in RolloutState}


def _watch_tenant(deps: Dependencies, tenant: str, told: list[Signal]) -> int:
    """Returns how many rollouts moved; adds to ``told`` what people should know of them."""
    now, moved = deps.clock.now(), 0
    with deps.ledger.work(tenant, write=False) as work:
        judged = [(rollout, _judged(work, rollout, now)) for rollout in work.rollouts.open()]
    for rollout, found in judged:
        if found.action is None:
            continue
        try:
            if found.action in _FORWARD:
                demand_no_fork(deps)
            with deps.ledger.work(tenant) as work:
                act = _if_usable(work, rollout, _Act(found.action, GUARDS, now, found.reason, _evidence(found), found.every_step_passed))
                _do(work, rollout, act)
                news = _signals_of(rollout, act, found)
                work.signals.add(news)
        except TailorbirdError as error:
            _log.warning("rollout %s was not moved (%s)", rollout.id, error.error_code)
        else:
            _log.info("rollout %s: %s (%s)", rollout.id, act.action.value, act.reason)
            moved += 1
            told += news
    return moved


def _signals_of(rollout: Rollout, act: _Act, found: GuardReport) -> tuple[Signal, ...]:
    """What people should know of what was done without them."""
    if act.action not in _TOLD:
        return ()
    name, severity = _TOLD[act.action]
    said: dict[str, object] = {"value": 1.0, "bound": None, "n": found.requests, "severity": severity, "text": f"{act.reason}."}
    of = {"tenant": rollout.tenant, "objective": rollout.alias, "release": rollout.candidate}
    return (Signal.model_validate({"name": name, "at": act.at, **of, **said}),)


def _if_usable(work: UnitOfWork, rollout: Rollout, act: _Act) -> _Act:
    """``act``, or to hold the rollout where its release would get more users, and lacks by now what production demands."""
    if act.action not in _FORWARD:
        return act
    try:
        _demand_usable(work, work.releases.get(rollout.candidate))
    except (Forbidden, Conflict, Corrupt) as error:  # Corrupt: signed by a key that leaked, for one
        return replace(act, action=RolloutAction.HOLD, reason=f"{act.reason}; but {error.message}")
    return act


def take_back(work: UnitOfWork, rollout: Rollout, by: str, now: datetime, reason: str) -> Rollout:
    """Ends an open rollout in favour of what stood before."""
    return _do(work, rollout, _Act(RolloutAction.ROLL_BACK, by, now, reason))


def _judged(work: UnitOfWork, rollout: Rollout, now: datetime) -> GuardReport:
    path = f"{rollout.tenant}/{rollout.alias}"
    tallies = work.rollouts.tallies(path, rollout.first_version, rollout.started_at, rollout.last_version)
    return evaluate_guards(rollout, tallies, now, votes_of(work, rollout))


def votes_of(work: UnitOfWork, rollout: Rollout) -> tuple[Votes, ...]:
    """What users said of the candidate's answers since the rollout began; nothing where no live KPI asks."""
    if not rollout.live_kpis:
        return ()
    path = f"{rollout.tenant}/{rollout.alias}"
    return work.rollouts.votes(path, rollout.candidate, rollout.first_version, rollout.started_at, rollout.last_version)


def _trial(rollout: Rollout, step: RolloutStep) -> AliasTrial:
    share = step.share if step.kind == "live" else None
    return AliasTrial(incumbent=rollout.incumbent, candidate=rollout.candidate, share=share, salt=rollout.salt)


def _demand_live(work: UnitOfWork, rollout: Rollout, reason: str, *, override: bool) -> Facts:
    """What the log is told of live KPIs at a promotion. Raises Conflict where one is not proven and nobody overrides that, InvalidInput
    where somebody does so without a reason."""
    live = live_findings(rollout.live_kpis, votes_of(work, rollout), rollout.risk.confidence)
    missing = unproven_kpis(live)
    if not missing:
        return _of_live(live)
    if not override:
        raise Conflict(
            f"a live KPI is not proven: {missing}",
            "wait for more feedback, take it back, or promote it all the same: tailorbird rollout decide ID promote_unproven --reason ...",
        )
    if not reason.strip():
        raise InvalidInput("an override needs a reason", "say why the release may answer everybody without the proof")
    return _of_live(live) | {"override": "live_kpis"}


def _of_live(live: Iterable[LiveFinding]) -> Facts:
    """The numbers of live KPIs, for the log."""
    facts: Facts = {}
    for one in live:
        facts |= {f"live.{one.metric}": one.standing, f"live.{one.metric}.target": one.target, f"live.{one.metric}.users": one.units}
        facts[f"live.{one.metric}.share"] = None if one.value is None else round(one.value, 6)
        facts[f"live.{one.metric}.low"] = None if one.low is None else round(one.low, 6)
    return facts


@dataclass(frozen=True)
class _Act:
    """What is done to a rollout, by whom, when and why; ``facts`` go into the log."""

    action: RolloutAction
    by: str
    at: datetime
    reason: str
    facts: Facts = field(default_factory=dict)
    every_step_passed: bool = False


def _do(work: UnitOfWork, rollout: Rollout, act: _Act) -> Rollout:
    """One transition with all that belongs to it, in the caller's transaction. Raises Conflict."""
    alias, changes = work.aliases.get(rollout.alias), dict[str, object]()
    action, by, now = act.action, act.by, act.at
    if action is RolloutAction.ADVANCE:
        if rollout.step + 1 >= len(rollout.plan.steps):
            raise Conflict("there is no further step", "promote it, or take it back")
        step = rollout.plan.steps[rollout.step + 1]
        work.aliases.put(with_trial(alias, _trial(rollout, step), now, by))
        changes = {"step": rollout.step + 1, "versions": (*rollout.versions, alias.version + 1), "step_since": now}
    elif action is RolloutAction.ROLL_BACK:
        _leave(work, rollout, alias, by, now)
    elif action is RolloutAction.PROMOTE:
        _enter(work, rollout, alias, by, now)
    elif action is RolloutAction.RESUME:
        changes = {"step_since": now}
        judged = _judged(work, rollout, now)
        if judged.sample_ratio_broken or judged.too_few_mirrored:
            # What was counted stays as it was: without it, or the rollout would be held again at once.
            work.aliases.put(with_trial(alias, _trial(rollout, rollout.present), now, by))
            changes |= {"counted_from": alias.version + 1}
    elif action is RolloutAction.HOLD and by == GUARDS:
        changes = {"finished": act.every_step_passed}
    moved = rollout.after(action, by, now, act.reason, **changes)
    work.rollouts.replace(moved)
    said = act.reason if by == GUARDS else remark(work, act.reason)
    told: Facts = {"rollout": rollout.id, "step": rollout.step, "reason": said}
    record(work, _DONE[action], by, rollout.candidate, now, told | act.facts)
    return moved


def _leave(work: UnitOfWork, rollout: Rollout, alias: Alias, by: str, now: datetime) -> None:
    """The candidate goes: for good where a guard says so, back to staging where a person does."""
    final = ReleaseAction.WITHDRAW if by == GUARDS else ReleaseAction.SUPERSEDE
    work.releases.move(rollout.candidate, ReleaseState.ROLLING_OUT, next_state(ReleaseState.ROLLING_OUT, final))
    work.aliases.put(restored(alias, rollout.incumbent, now, by))


def _enter(work: UnitOfWork, rollout: Rollout, alias: Alias, by: str, now: datetime) -> None:
    """The candidate answers alone; the incumbent returns to staging and stays loaded for a while."""
    release = work.releases.get(rollout.candidate)
    after = promoted(restored(alias, rollout.incumbent, now, by), release, now, by)
    work.releases.move(rollout.incumbent, ReleaseState.PRODUCTION, next_state(ReleaseState.PRODUCTION, ReleaseAction.SUPERSEDE))
    work.releases.move(rollout.candidate, ReleaseState.ROLLING_OUT, next_state(ReleaseState.ROLLING_OUT, ReleaseAction.PROMOTE))
    work.aliases.put(after.model_copy(update={"version": alias.version + 1}))


def _evidence(found: GuardReport) -> Facts:
    """The numbers of that moment, for the log."""
    numbers: Facts = {"requests": found.requests, "requests_before": found.incumbent_requests}
    if found.mirrored is not None:
        numbers["mirrored"] = round(found.mirrored, 6)
    for guard in found.guards:
        numbers[f"{guard.guard.value}.candidate"] = None if guard.candidate is None else round(guard.candidate, 6)
        numbers[f"{guard.guard.value}.incumbent"] = None if guard.incumbent is None else round(guard.incumbent, 6)
        numbers[f"{guard.guard.value}.evidence"] = round(guard.evidence, 4)
    return numbers | _of_live(found.live)


__all__ = [
    "Decision",
    "RolloutReport",
    "RolloutState",
    "decide_rollout",
    "list_rollouts",
    "show_rollout",
    "start_rollout",
    "take_back",
    "watch_rollouts",
]


#: Seconds within which every gateway must have followed, and between two looks.
PATIENCE, _LOOK_EVERY = 120.0, 0.02


class Drill(Value):
    """What a drill found: seconds from the move of the name until every gateway answered by it, in and back."""

    release: Digest
    alias: str
    gateways: int
    promote_seconds: float
    rollback_seconds: float


@usecase("release.drill", "POST", "/api/releases/{digest}/drill", Action.DRILL)
def drill_release(deps: Dependencies, actor: Actor, digest: ReleaseDigest) -> Drill:
    """Rehearse promotion and rollback in staging, and record the seconds.

    Raises as ``rehearse``.
    """
    return rehearse(deps, actor, digest, PATIENCE, time.sleep)


def rehearse(deps: Dependencies, actor: Actor, digest: str, patience: float, wait: Callable[[float], None]) -> Drill:
    """Puts a staged release in and takes it back, under the alias of its objective in staging.

    Raises Conflict (it is not staged; no gateway serves), Unavailable (a gateway did not follow in time; the name is taken back).
    """
    with deps.ledger.work(actor.tenant, write=False) as work:
        release = work.releases.get(digest)
    if release.state is not ReleaseState.STAGED:
        raise Conflict(
            f"release {short(release.digest)} is {release.state.value}, and a drill needs a staged one",
            f"stage it: tailorbird release stage {short(release.digest)}",
            code="release_state",
        )
    gateways = _serving(deps)
    try:
        there = _timed(deps, actor, release, (_incumbent(deps, actor, release), release.digest), patience, wait)
    finally:
        back = _timed(deps, actor, release, (_incumbent(deps, actor, release),), patience, wait)
        _withdraw(deps, actor, release)
    found = Drill(
        release=release.digest,
        alias=alias_path(actor.tenant, release.content.objective_name, "staging"),
        gateways=gateways,
        promote_seconds=round(there, 3),
        rollback_seconds=round(back, 3),
    )
    facts: Facts = {"promote_seconds": found.promote_seconds, "rollback_seconds": found.rollback_seconds, "gateways": gateways}
    with deps.ledger.work(actor.tenant) as work:
        record(work, "release.drilled", actor.name, release.digest, deps.clock.now(), facts)
    return found


def _timed(
    deps: Dependencies, actor: Actor, release: Release, order: tuple[Digest | None, ...], patience: float, wait: Callable[[float], None]
) -> float:
    """Points the alias in staging to the last of ``order`` and returns the seconds until every gateway has followed."""
    with deps.ledger.work(actor.tenant) as work:
        _point(deps, work, actor, release, order[-1])
    started = time.monotonic()
    with deps.ledger.system(write=False) as system:
        moves = system.tenants.aliases_moved()
    while not _followed(deps, moves):
        if time.monotonic() - started > patience:
            raise Unavailable(
                f"not every gateway had followed within {patience:g} s",
                "look at /readyz and at the log of the gateways: the release may not load",
                code="drill_timeout",
            )
        wait(_LOOK_EVERY)
    return time.monotonic() - started


def _point(deps: Dependencies, work: UnitOfWork, actor: Actor, release: Release, to: Digest | None) -> None:
    name = release.content.objective_name
    try:
        before = work.aliases.get(name, "staging")
    except NotFound:
        before = None
    alias = Alias(
        tenant=actor.tenant,
        name=name,
        stage="staging",
        targets=(AliasTarget(release=to),) if to else (),
        previous=before.targets if before else (),
        version=before.version + 1 if before else 1,
        moved_at=deps.clock.now(),
        moved_by=actor.name,
    )
    work.aliases.put(alias)
    record(work, "alias.rehearsed", actor.name, alias.path, deps.clock.now(), {"now": to})


def _withdraw(deps: Dependencies, actor: Actor, release: Release) -> None:
    with deps.ledger.work(actor.tenant) as work:
        if work.aliases.get(release.content.objective_name, "staging").targets:
            _point(deps, work, actor, release, None)


def _incumbent(deps: Dependencies, actor: Actor, release: Release) -> Digest | None:
    """What answers the objective's name now: the way back is a way to somewhere, where there is something."""
    with deps.ledger.work(actor.tenant, write=False) as work:
        try:
            targets = work.aliases.get(release.content.objective_name).targets
        except NotFound:
            return None
    return targets[0].release if targets else None


def _serving(deps: Dependencies) -> int:
    """How many gateways serve. Raises Conflict when none does: there is nothing to rehearse with."""
    with deps.ledger.system(write=False) as system:
        count = len(system.gateways.serving(deps.clock.now() - timedelta(seconds=GONE_AFTER)))
    if not count:
        raise Conflict("no gateway serves", "start one: tailorbird serve")
    return count


def _followed(deps: Dependencies, moves: int) -> bool:
    with deps.ledger.system(write=False) as system:
        reached = system.gateways.serving(deps.clock.now() - timedelta(seconds=GONE_AFTER))
    return bool(reached) and min(reached.values()) >= moves
