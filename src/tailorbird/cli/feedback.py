"""``tailorbird feedback`` and ``tailorbird review``: what became of answers, and those that wait for people."""

from __future__ import annotations

from typing import Annotated

import typer

from tailorbird.cli.session import As, AsJson, Key, Workspace, open_session, out, print_json, print_table, say
from tailorbird.domain.feedback import FeedbackGiven, FeedbackKind
from tailorbird.usecases.feedback import QueuedAnswer
from tailorbird.usecases.operations import feedback as asking

feedback = typer.Typer()
review = typer.Typer(no_args_is_help=True)
RequestArgument = Annotated[str, typer.Argument(help="Id of the request, from the header x-tailorbird-request-id.", metavar="REQUEST")]


@feedback.command()
def _feedback(
    request: RequestArgument,
    kind: Annotated[FeedbackKind, typer.Argument(help="thumb, label, csat or outcome.")],
    value: Annotated[str, typer.Argument(help="up or down; the right label; 1 to 5; good or bad.")],
    workspace: Workspace = None,
    who: As = None,
    key: Key = None,
) -> None:
    """Say what became of an answer. Programs do so with POST /api/feedback and their API key."""
    filed = open_session(workspace, who, key).ask(asking.GIVE, FeedbackGiven(request=request, kind=kind, value=value), "reviewer")
    out.print(f"{filed.kind.value} {filed.value} for {filed.request}", markup=False)


@review.callback()
def _review() -> None:
    """Look at answers that a release was not sure of, and at a random sample; your labels become feedback."""


@review.command("list")
def _list(
    workspace: Workspace = None,
    who: As = None,
    key: Key = None,
    limit: Annotated[int, typer.Option(help="How many of the oldest.", min=1, max=500)] = 50,
    as_json: AsJson = False,
) -> None:
    """List answers that wait, oldest first."""
    found = open_session(workspace, who, key).ask(asking.QUEUE, asking.QueueRequest(limit=limit), "reviewer")
    if as_json:
        print_json(found)
        return
    rows = [
        (
            i.review.request,
            i.review.reason.value,
            i.request.prediction or "",
            _sure(i.request.confidence),
            i.content.text if i.content else "–",
        )
        for i in found.items
    ]
    print_table(("request", "why", "answer", "sure", "message (where kept)"), rows)
    say(f"{found.total} wait; next: tailorbird review label REQUEST LABEL")


@review.command("label")
def _label(
    request: RequestArgument,
    label: Annotated[str, typer.Argument(help="What is right.")],
    workspace: Workspace = None,
    who: As = None,
    key: Key = None,
) -> None:
    """Say what is right for an answer that waits."""
    done = open_session(workspace, who, key).ask(asking.SETTLE, asking.AnswerLabel(request=request, label=label), "reviewer")
    out.print(f"{done.request} is labelled {done.label}", markup=False)


def _row(item: QueuedAnswer) -> tuple[str, ...]:
    row, words = item.request, item.content.text if item.content else "–"
    return row.id, item.review.reason.value, row.prediction or "", _sure(row.confidence), words


def _sure(confidence: float | None) -> str:
    return "" if confidence is None else f"{confidence:.2f}"


apps = {"feedback": feedback, "review": review}
