"""``tailorbird feedback`` and ``tailorbird label``: feedback on answers, and the queue of answers to label."""

from __future__ import annotations

from typing import Annotated

import typer

from tailorbird.cli.groups import CommandGroup
from tailorbird.cli.session import open_session, out, print_json, print_table, say
from tailorbird.domain.feedback import FeedbackGiven, FeedbackKind
from tailorbird.usecases.feedback import QueuedAnswer
from tailorbird.usecases.operations import feedback as asking

feedback = typer.Typer(add_completion=False)
label = typer.Typer(cls=CommandGroup, add_completion=False, no_args_is_help=True)
RequestArgument = Annotated[str, typer.Argument(help="Id of the request, from the header x-tailorbird-request-id.", metavar="REQUEST")]


@feedback.command()
def _feedback(
    request: RequestArgument,
    kind: Annotated[FeedbackKind, typer.Argument(help="thumb, label, csat or outcome.")],
    value: Annotated[str, typer.Argument(help="up or down; the right label; 1 to 5; good or bad.")],
) -> None:
    """Say what became of an answer. Programs do so with POST /api/feedback and their API key."""
    session = open_session()
    filed = session.ask(asking.GIVE, FeedbackGiven(request=request, kind=kind, value=value), "reviewer")
    print_json(filed) if session.as_json else out.print(f"{filed.kind.value} {filed.value} for {filed.request}", markup=False)


@label.callback()
def _queue_of_answers() -> None:
    """Look at answers that a release was not sure of, and at a random sample; your labels become feedback."""


@label.command("list")
def _list(
    limit: Annotated[int, typer.Option(help="How many of the oldest.", min=1, max=500)] = 50,
) -> None:
    """List answers that wait, oldest first."""
    session = open_session()
    found = session.ask(asking.QUEUE, asking.QueueRequest(limit=limit), "reviewer")
    if session.as_json:
        print_json(found)
        return
    print_table(("request", "why", "answer", "sure", "message (where kept)"), [_row(item) for item in found.items])
    say(f"{found.total} wait; next: tailorbird label answer REQUEST LABEL")


@label.command("answer")
def _answer(
    request: RequestArgument,
    given: Annotated[str, typer.Argument(help="The right label.", metavar="LABEL")],
) -> None:
    """Say what is right for an answer that waits."""
    session = open_session()
    done = session.ask(asking.SETTLE, asking.AnswerLabel(request=request, label=given), "reviewer")
    print_json(done) if session.as_json else out.print(f"{done.request} is labelled {done.label}", markup=False)


def _row(item: QueuedAnswer) -> tuple[str, ...]:
    row, words = item.request, item.content.text if item.content else "–"
    return row.id, item.review.reason.value, row.prediction or "", _sure(row.confidence), words


def _sure(confidence: float | None) -> str:
    return "" if confidence is None else f"{confidence:.2f}"


apps = {"feedback": feedback, "label": label}
