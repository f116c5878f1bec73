"""``tailorbird rollout`` and ``tailorbird drill``: progressive rollouts, and the way back rehearsed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import yaml

from tailorbird.cli.groups import command, command_group
from tailorbird.cli.session import open_session, out, print_json, print_table, say
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.rollout import GuardFinding, Rollout, RolloutPlan, SegmentFinding
from tailorbird.reporting.evidence_page import difference_range
from tailorbird.usecases.rollouts.drill import drill_release
from tailorbird.usecases.rollouts.rollouts import Decision, RolloutReport, decide_rollout, list_rollouts, show_rollout, start_rollout

rollout = command_group()
drill = command()
DigestArgument = Annotated[str, typer.Argument(help="Digest of a staged release, or its prefix.", metavar="DIGEST")]
RolloutArgument = Annotated[str, typer.Argument(help="Id of the rollout, or its prefix.", metavar="ROLLOUT")]


@rollout.callback()
def _rollout() -> None:
    """Start and control guarded progressive rollouts: shadow traffic, then a growing share of users, with automatic rollback."""


@rollout.command("start")
def _start(
    digest: DigestArgument,
    plan: Annotated[Path | None, typer.Option(help="YAML file of the plan. [default: shadow, 5 %, 25 %, 50 %, production]")] = None,
) -> None:
    """Start a guarded progressive rollout."""
    wanted = _plan(plan) if plan else RolloutPlan()
    session = open_session()
    begun = session.ask_as("operator", start_rollout, digest=digest, plan=wanted)
    if session.as_json:
        print_json(begun)
        return
    out.print(f"rollout {begun.id} of {begun.tenant}/{begun.alias}: {_step(begun)}", markup=False)
    say(f"watch it: tailorbird rollout show {begun.id}")


@rollout.command("list")
def _list(limit: Annotated[int, typer.Option(help="Number of newest rollouts.", min=1, max=1000)] = 50) -> None:
    """List rollouts, newest first."""
    session = open_session()
    known = session.ask(list_rollouts, limit=limit).rollouts
    if session.as_json:
        print_json(known)
        return
    rows = [(r.id, r.alias, short(r.candidate), r.state.value, _step(r), f"{r.changed_at:%m-%d %H:%M}") for r in known]
    print_table(("rollout", "name", "release", "state", "step", "changed"), rows)


@rollout.command("show")
def _show(rollout_id: RolloutArgument) -> None:
    """Show a rollout: current step, guards overall and by segment, history."""
    session = open_session()
    found = session.ask(show_rollout, rollout=rollout_id)
    print_json(found) if session.as_json else _tell(found)


@rollout.command("decide")
def _decide(
    rollout_id: RolloutArgument,
    decision: Annotated[
        Decision,
        typer.Argument(help="hold, resume, advance, promote, promote_unproven (with an open live KPI; needs a reason) or roll_back."),
    ],
    reason: Annotated[str, typer.Option(help="Reason, for the audit log.")] = "",
) -> None:
    """Hold, resume, advance, promote or roll back a rollout."""
    session = open_session()
    moved = session.ask_as("operator", decide_rollout, rollout=rollout_id, decision=decision, reason=reason)
    print_json(moved) if session.as_json else out.print(f"rollout {moved.id} is {moved.state.value.replace('_', ' ')}", markup=False)


@drill.command()
def _drill(digest: DigestArgument) -> None:
    """Rehearse promotion and rollback of a staged release under a separate alias; records the seconds until every gateway follows."""
    session = open_session()
    found = session.ask_as("operator", drill_release, digest=digest)
    if session.as_json:
        print_json(found)
        return
    told = f"in after {found.promote_seconds:.2f} s, back after {found.rollback_seconds:.2f} s, on {found.gateways} gateways"
    out.print(f"release {short(found.release)} under {found.alias}: {told}", markup=False)


def _plan(path: Path) -> RolloutPlan:
    """The plan in a file. Raises InvalidInput."""
    try:
        read = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        read = None
    if not isinstance(read, dict):
        raise InvalidInput(f"{path} is no plan", "write steps, guards, alpha, then and patience_hours as YAML", code="plan_invalid")
    return RolloutPlan.model_validate(read)


def _step(one: Rollout) -> str:
    step = one.present
    what = "mirrored" if step.kind == "shadow" else f"{100 * step.share:g} % of the users"
    return f"step {one.step + 1} of {len(one.plan.steps)}, {what}"


def _tell(found: RolloutReport) -> None:
    one, judged = found.rollout, found.judgement
    out.print(f"rollout {one.id} of {one.tenant}/{one.alias} is {one.state.value.replace('_', ' ')}: {_step(one)}", markup=False)
    out.print(f"release {short(one.candidate)} beside {short(one.incumbent)}; {judged.reason}", markup=False)
    if judged.mirrored is not None:
        out.print(f"requests of shadow steps that were mirrored: {100 * judged.mirrored:.1f} %", markup=False)
    if judged.agreement is not None:
        out.print(f"mirrored answers that were the one given: {100 * judged.agreement:.1f} %", markup=False)
    print_table(("guard", "release", "before", "difference", "margin", "says", "in words"), [_guard(g) for g in judged.guards])
    for live in judged.live:
        out.print(f"live KPI: {live.text}", markup=False)
    divided = {s.by for s in found.segments if s.segment}
    rows = [_segment(s) for s in found.segments if s.by in divided]
    if rows:
        print_table(("by", "segment", "guard", "release", "before", "difference", "units", ""), rows)
    for passage in one.history:
        out.print(f"  {passage.at:%Y-%m-%d %H:%M:%S} {passage.by}: {passage.action.value} ({passage.reason})", markup=False)


def _guard(one: GuardFinding) -> tuple[str, ...]:
    between = difference_range(one.guard, one.low, one.high)
    return one.guard.value, _value(one.candidate), _value(one.incumbent), between, f"{one.margin:g}", _verdict(one), one.text


def _segment(one: SegmentFinding) -> tuple[str, ...]:
    between, turned = difference_range(one.guard, one.low, one.high), "reversed" if one.reversed else ""
    values = _value(one.candidate), _value(one.incumbent)
    return one.by, one.segment or "not said", one.guard.value, *values, between, f"{one.units:,}", turned


def _value(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _verdict(guard: GuardFinding) -> str:
    return "breached" if guard.breached else "holds"


apps = {"rollout": rollout, "drill": drill}
