"""Releases: what they stand on, who decides, and the moves towards production and back."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi.responses import Response

from tailorbird.auth import Action
from tailorbird.console.forms import value_of, value_of_text
from tailorbird.console.rendering import PageContext, Paging, see_other
from tailorbird.crypto.canonical_json import canonical_json, digest_of, short
from tailorbird.domain.errors import Conflict, InvalidInput
from tailorbird.domain.evidence import Evidence, GateResult
from tailorbird.domain.identity import Signature
from tailorbird.domain.objective import Objective
from tailorbird.domain.release import Release, ReleaseAction, ReleaseState, Statement, next_state
from tailorbird.usecases.releases import promotion, release_queries
from tailorbird.usecases.releases.release_queries import QuorumReport, list_aliases, list_releases, show_card, show_quorum, show_release

ON_A_PAGE = 50


@dataclass(frozen=True)
class ReleaseBackground:
    """What a release stands on, as its dossier names it."""

    objective: Objective
    gate: GateResult
    evidence: Evidence


def show_all(visit: PageContext) -> Response:
    """Releases, newest first."""
    paging = Paging.of(visit.query, visit.ask(list_releases, limit=1).total, ON_A_PAGE)
    found = visit.ask(list_releases, limit=ON_A_PAGE, skip=paging.skip).releases
    return visit.page("releases.html", releases=found, paging=paging)


def show(visit: PageContext) -> Response:
    """One release, whole."""
    release = visit.ask(show_release, digest=visit.named("digest"))
    background, quorum = _background(visit, release), visit.ask(show_quorum, digest=release.digest)
    return visit.page(
        "release.html",
        release=release,
        background=background,
        card=visit.ask(show_card, digest=release.digest).markdown,
        live=visit.ask(release_queries.live_report, digest=release.digest).kpis if background.objective.live_kpis else (),
        quorum=quorum,
        choices=_choices(visit, release, quorum),
        moves=_moves(visit, release),
        done=visit.query.get("done", ""),
    )


def state(visit: PageContext) -> Response:
    """The statement that somebody is about to sign, exactly as it is signed."""
    form = visit.form
    stated = visit.ask_form(
        promotion.statement, digest=visit.named("digest"), decision=form.get("decision", ""), reason=form.get("reason", "").strip()
    )
    release = visit.ask(show_release, digest=stated.release)
    return visit.page("statement.html", release=release, stated=stated, text=canonical_json(stated).decode(), digest=digest_of(stated))


def decide(visit: PageContext) -> Response:
    """Files a statement with the signature that the browser made."""
    stated = value_of_text(Statement, visit.form.get("signed", ""))
    signature = value_of(Signature, _signature(visit, stated))
    release = visit.ask(promotion.decide, digest=visit.named("digest"), statement=stated, signature=signature)
    return _back_to(release, "approved" if stated.decision == "approve" else "rejected")


def confirm_stage(visit: PageContext) -> Response:
    """Asks before staging."""
    release = visit.ask(show_release, digest=visit.named("digest"))
    next_state(release.state, ReleaseAction.STAGE)
    told = ("Engines may load it; no user's request reaches it yet.",)
    return _confirm(visit, f"Stage release {short(release.digest)}", told, "Stage it", _address(release))


def stage(visit: PageContext) -> Response:
    """Stages."""
    return _back_to(visit.ask(promotion.stage, digest=visit.named("digest")), "staged")


def confirm_promote(visit: PageContext) -> Response:
    """Asks before promoting."""
    release = visit.ask(show_release, digest=visit.named("digest"))
    next_state(release.state, ReleaseAction.PROMOTE)
    name = f"{release.content.tenant}/{release.content.objective_name}"
    told = (
        f"From now on {name} answers with this release.",
        "The one it replaces stays loaded for a while, and a rollback brings it back.",
    )
    return _confirm(visit, f"Promote release {short(release.digest)}", told, "Promote it", _address(release))


def promote(visit: PageContext) -> Response:
    """Promotes."""
    moved = visit.ask(promotion.promote, digest=visit.named("digest"))
    assert moved.entered is not None
    return _back_to(moved.entered, "promoted")


def confirm_roll_back(visit: PageContext) -> Response:
    """Asks before rolling back, and why."""
    name = visit.named("alias")
    alias = next((alias for alias in visit.ask(list_aliases).aliases if alias.name == name), None)
    if alias is None or not alias.targets:
        raise Conflict(f"{name} has nothing in production", "promote a release first", code="alias_withdrawn")
    former = ", ".join(short(target.release) for target in alias.previous)
    told = (
        f"{alias.path} answers with {', '.join(short(target.release) for target in alias.targets)} now.",
        f"After the rollback it answers with {former}."
        if former
        else "Nothing was in production before: nobody answers after the rollback.",
    )
    button = "Roll back" if former else "Withdraw the name"
    title, form = f"Roll {alias.path} back", {"version": alias.version, "withdraw": not former}
    return visit.page("confirm.html", title=title, told=told, button=button, back="/console", ask_reason=True, **form)


def roll_back(visit: PageContext) -> Response:
    """Rolls back."""
    reason, seen = visit.form.get("reason", "").strip(), visit.form.get("version")
    withdraw = "withdraw" in visit.form
    moved = visit.ask_form(promotion.roll_back, alias=visit.named("alias"), reason=reason, version=seen, withdraw=withdraw)
    return _back_to(moved.left, "rolled-back") if moved.left else see_other("/console")


def _background(visit: PageContext, release: Release) -> ReleaseBackground:
    """Read after the control plane has shown the release: what it names belongs to it."""
    with visit.deps.ledger.work(visit.actor.tenant, write=False) as work:
        objective = work.records.get(Objective, release.content.objective)
        gate = work.records.get(GateResult, release.dossier.gate)
        evidence = work.records.get(Evidence, release.dossier.test_evidence)
    return ReleaseBackground(objective, gate, evidence)


def _choices(visit: PageContext, release: Release, quorum: QuorumReport) -> tuple[str, ...]:
    """The decisions that the page offers the actor. Whether one counts, the control plane says when it comes in."""
    if not visit.may(Action.APPROVE):
        return ()
    choices: list[str] = []
    if any(person.name == visit.actor.name for person in quorum.deciders):
        choices = ["approve", "reject"]
    elif visit.actor.name in quorum.counts:
        choices = ["reject"]
    legal = {"approve": quorum.is_open, "reject": _legal(release.state, ReleaseAction.REJECT)}
    return tuple(choice for choice in choices if legal[choice])


def _moves(visit: PageContext, release: Release) -> tuple[tuple[str, str], ...]:
    """What the actor may do to the release now: a label and an address each."""
    moves = []
    if _legal(release.state, ReleaseAction.STAGE) and visit.may(Action.STAGE):
        moves.append(("Stage…", f"{_address(release)}/stage"))
    if release.state is ReleaseState.STAGED and visit.may(Action.DRILL):
        moves.append(("Drill…", f"{_address(release)}/drill"))
    if release.state is ReleaseState.STAGED and visit.may(Action.ROLL_OUT):
        moves.append(("Roll out…", f"{_address(release)}/rollout"))
    if _legal(release.state, ReleaseAction.PROMOTE) and visit.may(Action.PROMOTE):
        moves.append(("Promote…", f"{_address(release)}/promote"))
    if release.state is ReleaseState.PRODUCTION and visit.may(Action.ROLLBACK):
        moves.append(("Roll back…", f"/console/aliases/{release.content.objective_name}/rollback"))
    return tuple(moves)


def _legal(state: ReleaseState, action: ReleaseAction) -> bool:
    try:
        next_state(state, action)
    except Conflict:
        return False
    return True


def _signature(visit: PageContext, stated: Statement) -> dict[str, object]:
    """The fields of the signature; it must be the actor's own."""
    if stated.identity != visit.actor.name:
        raise InvalidInput(f"this statement is {stated.identity}'s", "state your own decision", code="statement_other")
    return {
        "identity": stated.identity,
        "public_key": visit.form.get("public_key", ""),
        "purpose": stated.decision,
        "digest": digest_of(stated),
        "signature": visit.form.get("signature", ""),
        "at": visit.deps.clock.now(),
    }


def _confirm(visit: PageContext, title: str, told: tuple[str, ...], button: str, back: str) -> Response:
    return visit.page("confirm.html", title=title, told=told, button=button, back=back, ask_reason=False)


def _address(release: Release) -> str:
    return f"/console/releases/{release.digest.removeprefix('sha256:')}"


def _back_to(release: Release, done: str) -> Response:
    return see_other(f"{_address(release)}?done={done}")
