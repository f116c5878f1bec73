"""``tailorbird review``: blind label review of a release, by people and by judge models."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from tailorbird.cli.groups import command_group
from tailorbird.cli.progress import ProgressDisplay
from tailorbird.cli.session import CommandSession, err, open_session, out, print_json, say
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.errors import Conflict, InvalidInput
from tailorbird.domain.label_review import Bounded, JudgeResult, JudgeState, Mark
from tailorbird.reporting import judge_text
from tailorbird.sdk.remote_runs import POLL_SECONDS
from tailorbird.usecases import Progress
from tailorbird.usecases.label_reviews import label_review
from tailorbird.usecases.label_reviews.label_review import ReviewState, ShownItem, next_shown, show_review
from tailorbird.usecases.label_reviews.llm_judges import ask_judge, judge_here

review = command_group()
DigestArgument = Annotated[str, typer.Argument(help="Digest of the release, or its prefix.", metavar="DIGEST")]

_KEYS = {"l": Mark.LEFT, "r": Mark.RIGHT, "t": Mark.TIE, "n": Mark.NEITHER, "s": Mark.SKIP}


@review.callback()
def _review() -> None:
    """Review a release's answers blind, run a judge model, and show reviewer agreement."""


@review.command("answers")
def _answers(digest: DigestArgument) -> None:
    """Judge items in the terminal: which of two answers is better. Every judgement is saved at once.

    With --json, print the next item and exit; programs judge it with `tailorbird review mark`.
    """
    session = open_session()
    shown = session.ask_as("reviewer", next_shown, digest=digest)
    if session.as_json:
        print_json(shown)
        return
    while shown.number:
        shown = _asked(session, digest, shown)
    out.print(f"all {shown.asked} items are judged: thank you", markup=False)


@review.command("mark")
def _mark(
    digest: DigestArgument,
    judgement: Annotated[str, typer.Argument(help="Item number and mark: 7=left, right, tie, neither or skip.", metavar="N=MARK")],
    reason: Annotated[str, typer.Option(help="Reason; required for skip.")] = "",
) -> None:
    """Judge one item, and print the next as JSON."""
    number, _, mark = judgement.partition("=")
    if not number.isdecimal() or mark not in list(Mark):
        raise InvalidInput(f"{judgement!r} is no judgement", "write it as 7=left (or right, tie, neither, skip)", code="judgement_invalid")
    print_json(_file(open_session(), digest, int(number), Mark(mark), reason))


@review.command("show")
def _show(digest: DigestArgument) -> None:
    """Show the state of a label review: progress, agreement and preference of its reviewers."""
    session = open_session()
    found = session.ask(show_review, digest=digest)
    print_json(found) if session.as_json else _tell(found)


@review.command("ask")
def _ask(
    digest: DigestArgument,
    model: Annotated[str, typer.Option(help="Judge model: catalogue name, hf://OWNER/NAME[@REVISION], local folder or GGUF file.")],
) -> None:
    """Run a judge model over the review's items, each pair in both orders.

    It replaces no reviewer: it counts once its agreement with people is measured, and then it can only block.
    """
    session = open_session()
    with ProgressDisplay(err) as progress:
        found = _judged_there(session, digest, model, progress) if session.server else _judged_here(session, digest, model, progress)
    print_json(found) if session.as_json else _tell(found)


def _judged_here(session: CommandSession, digest: str, model: str, progress: Progress) -> ReviewState:
    name = str(Path(model).resolve()) if Path(model).exists() and not model.startswith("hf://") else model
    asked = judge_here(session.deps, session.actor("reviewer"), digest, name, progress)
    return session.ask_as("reviewer", show_review, digest=asked.release)


def _judged_there(session: CommandSession, digest: str, model: str, progress: Progress) -> ReviewState:
    found = session.ask_as("reviewer", ask_judge, digest=digest, model=model)
    progress.tell("a worker of the server asks the model; Ctrl-C leaves it going (tailorbird review show tells how it stands)")
    while (judge := _judge_of(found, model)).state is JudgeState.WAITING:
        time.sleep(POLL_SECONDS)
        found = session.ask_as("reviewer", show_review, digest=found.release)
    if judge.state is JudgeState.FAILED:
        raise Conflict(f"{model} did not judge: {judge.reason}", "see the worker's log; asking again tries again", code="judge_failed")
    return found


def _judge_of(found: ReviewState, model: str) -> JudgeResult:
    assert found.result is not None
    return next(judge for judge in found.result.judges if judge.model == model)


def _asked(session: CommandSession, digest: str, shown: ShownItem) -> ShownItem:
    out.rule(f"item {shown.judged + 1} of {shown.asked}", align="left")
    out.print(shown.instruction, style="dim", markup=False)
    out.print(shown.text, markup=False)
    out.print(f"\n  left:  {shown.left}\n  right: {shown.right}\n", markup=False)
    while True:
        said = typer.prompt("(l)eft, (r)ight, (t)ie, (n)either, (s)kip").strip().casefold()[:1]
        if said in _KEYS:
            break
        say("answer with one of: l r t n s")
    mark = _KEYS[said]
    return _file(session, digest, shown.number, mark, typer.prompt("why can it not be judged") if mark is Mark.SKIP else "")


def _file(session: CommandSession, digest: str, number: int, mark: Mark, reason: str) -> ShownItem:
    return session.ask_as("reviewer", label_review.judge, digest=digest, number=number, mark=mark, reason=reason)


def _tell(found: ReviewState) -> None:
    if found.result is None:
        out.print(f"release {short(found.release)} needs no label review", markup=False)
        return
    result = found.result
    out.print(f"label review of {short(found.release)}: {result.verdict.value}: {result.reason}", markup=False)
    for one in result.reviewers:
        consistency = "" if one.consistency is None else f", {one.consistency:.0%} of repeated items judged alike"
        flagged = f"; does not count: {one.flagged}" if one.flagged else ""
        out.print(f"  {one.reviewer}: {one.judged} of {result.asked}, {one.skipped} skipped{consistency}{flagged}", markup=False)
    for name, value in (("Cohen's kappa", result.cohen), ("Fleiss' kappa", result.fleiss), ("Krippendorff's alpha", result.krippendorff)):
        if value.value is not None:
            out.print(f"  {name} {_bounded(value)}", markup=False)
    if result.win_rate.value is not None:
        out.print(f"  preferred to {found.against}: {_bounded(result.win_rate)}", markup=False)
    for judge in result.judges:
        out.print(judge_text(judge), markup=False)


def _bounded(value: Bounded) -> str:
    told = f"{value.value:.2f}"
    return told if value.low is None or value.high is None else f"{told} [{value.low:.2f}, {value.high:.2f}]"


apps = {"review": review}
