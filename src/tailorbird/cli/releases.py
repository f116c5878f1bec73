"""``tailorbird release``, ``review``, ``export``, ``promote``, ``rollback``, ``drill`` and ``rollout``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import yaml

from tailorbird.cli.invocation import command, command_group, tell
from tailorbird.cli.session import (
    another_release,
    answer,
    err,
    list_verb,
    open_session,
    out,
    print_table,
    say,
    show,
)
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.errors import Conflict, InvalidInput
from tailorbird.domain.label_review import Mark
from tailorbird.domain.release import Release, ReleaseState
from tailorbird.domain.rollout import Rollout, RolloutPlan
from tailorbird.ports.engine import LoadRequest
from tailorbird.ports.model_reader import GgufPrecision
from tailorbird.reporting.documents import difference_range
from tailorbird.reporting.tables import RELEASE_COLUMNS, Columns, bounded_text, release_summary
from tailorbird.sdk.progress import ProgressDisplay
from tailorbird.sdk.session import APPROVER, decide
from tailorbird.usecases import admit, label_review
from tailorbird.usecases.label_review import ReviewState, ShownItem, next_shown, show_review
from tailorbird.usecases.releases import promotion, release_queries
from tailorbird.usecases.releases.export import ExportForm, ExportFormat, ExportPart, export_release
from tailorbird.usecases.releases.release_queries import list_aliases, list_releases, show_card, show_quorum, show_release
from tailorbird.usecases.releases.rollouts import (
    Decision,
    decide_rollout,
    drill_release,
    list_rollouts,
    show_rollout,
    start_rollout,
)

release = command_group("List, show, verify, approve, reject and stage releases.")
DigestArgument = Annotated[str, typer.Argument(help="Digest of the release, or its prefix.", metavar="DIGEST")]


list_verb(release, list_releases, RELEASE_COLUMNS, "List the tenant's releases, newest first.", newest="releases")


@release.command("show")
def _show(
    digest: DigestArgument,
    card: Annotated[bool, typer.Option("--card", help="Print the model card.")] = False,
) -> None:
    """Show a release: digests, state, decisions; with --card, its model card."""
    session = open_session()
    if card:
        found_card = session.ask(show_card, digest=digest)
        answer(found_card)
        tell(found_card.markdown)
        return
    found = session.ask(show_release, digest=digest)
    answer(found)
    tell(release_summary(found))
    if found.state not in (ReleaseState.RETIRED, ReleaseState.REJECTED):
        needed = session.ask(show_quorum, digest=found.digest)
        struck = [one.identity for one in found.approvals if one.decision == "approve" and one.identity not in needed.counts]
        lines = [("", f"the approval of {name} no longer counts") for name in struck]
        lines += [("needed", "" if needed.is_reached else needed.text), ("review", needed.review or needed.reviewed)]
        for name, text in lines:
            if text:
                tell(f"{name:<9} {text}")


@release.command("verify")
def _verify(digest: DigestArgument) -> None:
    """Verify a release: signature, approvals and files. What an engine makes of it is compared whenever one loads it."""
    session = open_session()
    shown = session.ask_as("operator", show_release, digest=digest)
    admit(session.deps, LoadRequest(tenant=session.actor("operator").tenant, release=shown.digest, purpose="staging"))
    say("signature and files are as they were")


@release.command("live")
def _live(digest: DigestArgument) -> None:
    """Show a release's live KPIs against the objective's targets."""
    found = open_session().ask(release_queries.live_report, digest=digest)
    answer(found)
    if not found.kpis:
        say("the objective of this release states no live KPI")
    for one in found.kpis:
        out.print(f"{one.standing}: {one.text}")


@release.command("approve")
def _approve(
    digest: DigestArgument,
    reason: Annotated[str, typer.Option(help="Reason, for the audit log.")] = "",
) -> None:
    """Approve a release, signed with your own key. Authors cannot approve their own releases."""
    session = open_session()
    found = decide(session, digest, "approve", reason)
    _show_state(found)
    needed = session.ask_as(APPROVER, show_quorum, digest=found.digest)
    if not needed.is_reached:
        say(f"not approved yet: {needed.text}")
    elif needed.review:
        say(f"next: tailorbird review answers {short(found.digest)}; label review: {needed.review}")
    elif found.state is ReleaseState.APPROVED:
        say(f"next: tailorbird release stage {short(found.digest)} --as {session.colleague('operator')}")


@release.command("reject")
def _reject(
    digest: DigestArgument,
    reason: Annotated[str, typer.Option(help="Reason, for the audit log.")],
) -> None:
    """Reject a release, permanently."""
    session = open_session()
    _show_state(decide(session, digest, "reject", reason))


@release.command("stage")
def _stage(digest: DigestArgument) -> None:
    """Stage an approved release."""
    session = open_session()
    found = session.ask_as("operator", promotion.stage, digest=digest)
    _show_state(found)
    following = session.ask_as("operator", show_quorum, digest=found.digest).next
    say(f"next: {following} --as {session.colleague('operator')}" if following.startswith("tailorbird ") else f"next: {following}")


def _show_state(found: Release) -> None:
    last = max(found.approvals, key=lambda approval: approval.signature.at, default=None)
    decided = f"; last decision: {last.decision} by {last.identity} as {last.role.value}" if last else ""
    show(found, f"release {short(found.digest)} is {found.state.value}{decided}")


review = command_group("Review a release's answers blind; show reviewer agreement.")


@review.command("answers")
def _answers(digest: DigestArgument) -> None:
    """Show the next item to judge: two answers without names. Judge it with `tailorbird review mark`, or in the console."""
    _show_item(open_session().ask_as("reviewer", next_shown, digest=digest))


def _show_item(shown: ShownItem) -> None:
    answer(shown)
    if not shown.number:
        out.print(f"all {shown.asked} items are judged: thank you")
        return
    out.rule(f"item {shown.judged + 1} of {shown.asked}", align="left")
    out.print(f"{shown.instruction}\n{shown.text}\n\n  left:  {shown.left}\n  right: {shown.right}\n")
    say(f"which is better: tailorbird review mark {short(shown.release)} {shown.number}=left (or right, tie, neither, skip)")


@review.command("mark")
def _mark(
    digest: DigestArgument,
    judgement: Annotated[str, typer.Argument(help="Item number and mark: 7=left, right, tie, neither or skip.", metavar="N=MARK")],
    reason: Annotated[str, typer.Option(help="Reason; required for skip.")] = "",
) -> None:
    """Judge one item, and show the next."""
    number, _, mark = judgement.partition("=")
    if not number.isdecimal() or mark not in list(Mark):
        raise InvalidInput(f"{judgement!r} is no judgement", "write it as 7=left (or right, tie, neither, skip)")
    session = open_session()
    _show_item(session.ask_as("reviewer", label_review.judge, digest=digest, number=int(number), mark=Mark(mark), reason=reason))


@review.command("show")
def _show_review(digest: DigestArgument) -> None:
    """Show the state of a label review: progress, agreement and preference of its reviewers."""
    found = open_session().ask(show_review, digest=digest)
    answer(found)
    _tell(found)


def _tell(found: ReviewState) -> None:
    if found.result is None:
        out.print(f"release {short(found.release)} needs no label review")
        return
    result = found.result
    out.print(f"label review of {short(found.release)}: {result.verdict.value}: {result.reason}")
    for one in result.reviewers:
        consistency = "" if one.consistency is None else f", {one.consistency:.0%} of repeated items judged alike"
        flagged = f"; does not count: {one.flagged}" if one.flagged else ""
        out.print(f"  {one.reviewer}: {one.judged} of {result.asked}, {one.skipped} skipped{consistency}{flagged}")
    for name, value in (("Krippendorff's alpha", result.agreement), (f"preferred to {found.against}:", result.win_rate)):
        if (estimated := bounded_text(value)) is not None:
            out.print(f"  {name} {estimated}")


export = command()


@export.command()
def _export(
    digest: Annotated[str, typer.Argument(help="Digest of the release, or its prefix.", metavar="RELEASE")],
    target: Annotated[Path, typer.Argument(help="Folder to create.", metavar="TARGET")],
    format_: Annotated[ExportFormat, typer.Option("--format", help="Hugging Face form, or a file for llama.cpp.")] = "safetensors",
    part: Annotated[ExportPart, typer.Option(help="One model, the adapter alone, or the base model that adapters are for.")] = "merged",
    precision: Annotated[GgufPrecision, typer.Option(help="Weights in a GGUF file; held: as they are, nothing is rounded.")] = "held",
) -> None:
    """Export an approved release as one merged model: safetensors, config, tokenizer, chat template, model card; or as GGUF.

    What is written is compared with the release first; one that differs is deleted.
    """
    session = open_session()
    form = ExportForm(format=format_, part=part, precision=precision)
    with ProgressDisplay(err) as progress:
        found = export_release(session.deps, session.actor("operator"), digest, target, progress, form)
    show(found, f"release {short(found.release)} lies in {target}: {', '.join(found.files)}")
    if found.merged:
        close = f"{found.merged.mean_kl:.1e} nats a token, {found.merged.max_kl:.1e} at most, over {found.merged.positions} tokens"
        out.print(f"merged in {found.merged.dtype}; it differs from base and adapter by {close}")
    if found.gguf:
        close = f"{found.gguf.mean_kl:.1e} nats a token, {found.gguf.max_kl:.1e} at most, over {found.gguf.positions} tokens"
        out.print(f"written as {found.gguf.architecture}; read back, it differs from that by {close}")
    say(f"next: {_next(target, form)}")


def _next(target: Path, form: ExportForm) -> str:
    """The command that serves what was written."""
    if form.format == "gguf":
        return f"llama-server --model {target}/{'base' if form.part == 'base' else 'model'}.gguf"
    return f"serve {target} on its base: vllm serve BASE --enable-lora" if form.part == "adapter" else f"vllm serve {target}"


promote = command()
rollback = command()


@promote.command()
def _promote(
    digest: Annotated[str, typer.Argument(help="Digest of a staged release, or its prefix.", metavar="DIGEST")],
) -> None:
    """Promote a staged release to production, under the alias TENANT/OBJECTIVE."""
    session = open_session()
    moved = session.ask_as("operator", promotion.promote, digest=digest)
    answer(moved.alias)
    assert moved.entered is not None
    out.print(f"{moved.alias.path} is now release {short(moved.entered.digest)}")
    if not moved.left:
        say(f"next: a key for a program: tailorbird key create my-app --as {session.colleague('admin')}; then: tailorbird serve")
    else:
        say(f"release {short(moved.left.digest)} stays loaded for a while; back to it: tailorbird rollback {moved.alias.path}")


@rollback.command()
def _rollback(
    alias: Annotated[str, typer.Argument(help="TENANT/OBJECTIVE, or OBJECTIVE.", metavar="ALIAS")],
    reason: Annotated[str, typer.Option(help="Reason, for the audit log.")] = "",
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Where no release stands to go back to: withdraw the name.")] = False,
    release: Annotated[
        str, typer.Option(help="Digest of the release to take back, or its prefix: do nothing where another one answers.", metavar="DIGEST")
    ] = "",
) -> None:
    """Roll an alias back to its previous release; without one, withdraw it and retire its release for good.

    It withdraws none without --withdraw.
    """
    session = open_session()
    name, version = session.alias_name(alias), None
    if release:
        found = next((one for one in session.ask_as("operator", list_aliases).aliases if one.name == name), None)
        taken = found.asked[-1] if found and found.asked else ""
        if found and not taken.removeprefix("sha256:").startswith(release.removeprefix("sha256:")):
            present = short(taken) if taken else "nothing"
            hint = "look at what answers now: somebody else may have rolled it back"
            raise Conflict(f"{found.path} does not answer by {release}, but by {present}", hint, code="alias_moved")
        version = found.version if found else None
    moved = session.ask_as("operator", promotion.roll_back, alias=name, reason=reason, version=version, withdraw=withdraw)
    answer(moved.alias)
    if moved.entered:
        out.print(f"{moved.alias.path} is release {short(moved.entered.digest)} again")
    else:
        out.print(f"{moved.alias.path} is withdrawn: no release stood before it")
        if moved.left:
            say(f"release {short(moved.left.digest)} is retired, which is final")
            say(another_release("OBJECTIVE"))


rollout = command_group(
    "Start and control guarded progressive rollouts: shadow traffic, then a growing share of users, with automatic rollback."
)
drill = command()
RolloutArgument = Annotated[str, typer.Argument(help="Id of the rollout, or its prefix.", metavar="ROLLOUT")]


@rollout.command("start")
def _start(
    digest: DigestArgument,
    plan: Annotated[Path | None, typer.Option(help="YAML file of the plan. [default: shadow, 5 %, 25 %, 50 %, production]")] = None,
) -> None:
    """Start a guarded progressive rollout."""
    wanted = _plan(plan) if plan else RolloutPlan()
    begun = open_session().ask_as("operator", start_rollout, digest=digest, plan=wanted)
    show(begun, f"rollout {begun.id} of {begun.tenant}/{begun.alias}: {_step(begun)}")
    say(f"watch it: tailorbird rollout show {begun.id}")


list_verb(
    rollout,
    list_rollouts,
    {
        "rollout": "id",
        "name": "alias",
        "release": "candidate",
        "state": "state",
        "step": lambda one: _step(one),
        "changed": lambda one: f"{one.changed_at:%m-%d %H:%M}",
    },
    "List rollouts, newest first.",
    newest="rollouts",
)


@rollout.command("show")
def _show_rollout(rollout_id: RolloutArgument) -> None:
    """Show a rollout: current step, guards, history."""
    found = open_session().ask(show_rollout, rollout=rollout_id)
    answer(found)
    one, judged = found.rollout, found.judgement
    out.print(f"rollout {one.id} of {one.tenant}/{one.alias} is {one.state.value.replace('_', ' ')}: {_step(one)}")
    out.print(f"release {short(one.candidate)} beside {short(one.incumbent)}; {judged.reason}")
    if judged.mirrored is not None:
        out.print(f"requests of shadow steps that were mirrored: {100 * judged.mirrored:.1f} %")
    if judged.agreement is not None:
        out.print(f"mirrored answers that were the one given: {100 * judged.agreement:.1f} %")
    measured: Columns = {
        "guard": "guard",
        "release": lambda one: _value(one.candidate),
        "before": lambda one: _value(one.incumbent),
        "difference": lambda one: difference_range(one.guard, one.low, one.high),
    }
    words: Columns = {
        "margin": lambda one: f"{one.margin:g}",
        "says": lambda one: "breached" if one.breached else "holds",
        "in words": "text",
    }
    print_table({**measured, **words}, judged.guards)
    for live in judged.live:
        out.print(f"live KPI: {live.text}")
    for passage in one.history:
        out.print(f"  {passage.at:%Y-%m-%d %H:%M:%S} {passage.by}: {passage.action.value} ({passage.reason})")


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
    moved = open_session().ask_as("operator", decide_rollout, rollout=rollout_id, decision=decision, reason=reason)
    show(moved, f"rollout {moved.id} is {moved.state.value.replace('_', ' ')}")


@drill.command()
def _drill(digest: DigestArgument) -> None:
    """Rehearse promotion and rollback of a staged release under a separate alias; records the seconds until every gateway follows."""
    found = open_session().ask_as("operator", drill_release, digest=digest)
    answer(found)
    told = f"in after {found.promote_seconds:.2f} s, back after {found.rollback_seconds:.2f} s, on {found.gateways} gateways"
    out.print(f"release {short(found.release)} under {found.alias}: {told}")


def _plan(path: Path) -> RolloutPlan:
    """The plan in a file. Raises InvalidInput."""
    try:
        read = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        read = None
    if not isinstance(read, dict):
        raise InvalidInput(f"{path} is no plan", "write steps, guards, alpha, then and patience_hours as YAML")
    return RolloutPlan.model_validate(read)


def _step(one: Rollout) -> str:
    step = one.present
    what = "mirrored" if step.kind == "shadow" else f"{100 * step.share:g} % of the users"
    return f"step {one.step + 1} of {len(one.plan.steps)}, {what}"


def _value(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


apps = {
    "release": release,
    "review": review,
    "export": export,
    "promote": promote,
    "rollback": rollback,
    "rollout": rollout,
    "drill": drill,
}
