"""``tailorbird feedback`` and ``tailorbird label``: feedback on answers, and the queue of answers to label."""

from __future__ import annotations

from typing import Annotated

import typer

from tailorbird.cli.groups import command, command_group
from tailorbird.cli.session import open_session, out, print_json, print_table, say
from tailorbird.domain.feedback import FeedbackGiven, FeedbackKind
from tailorbird.usecases.feedback import QueuedAnswer, give_feedback, list_reviews, settle_review

feedback = command()
label = command_group()
RequestArgument = Annotated[str, typer.Argument(help="Id of the request, from the header x-tailorbird-request-id.", metavar="REQUEST")]


@feedback.command()
def _feedback(
    request: RequestArgument,
    kind: Annotated[FeedbackKind, typer.Argument(help="thumb, label, csat or outcome.")],
    value: Annotated[str, typer.Argument(help="up or down; the correct label; 1 to 5; good or bad.")],
) -> None:
    """Record feedback on an answer. Programs use POST /api/feedback with their API key."""
    session = open_session()
    filed = session.ask_as("reviewer", give_feedback, FeedbackGiven(request=request, kind=kind, value=value))
    print_json(filed) if session.as_json else out.print(f"{filed.kind.value} {filed.value} for {filed.request}", markup=False)


@label.callback()
def _queue_of_answers() -> None:
    """Label low-confidence answers and a random sample; labels are recorded as feedback."""


@label.command("list")
def _list(
    limit: Annotated[int, typer.Option(help="Number of oldest answers.", min=1, max=500)] = 50,
) -> None:
    """List the queue, oldest first."""
    session = open_session()
    found = session.ask_as("reviewer", list_reviews, limit=limit)
    if session.as_json:
        print_json(found)
        return
    print_table(("request", "why", "answer", "sure", "message (where kept)"), [_row(item) for item in found.items])
    say(f"{found.total} wait; next: tailorbird label answer REQUEST LABEL")


@label.command("answer")
def _answer(
    request: RequestArgument,
    given: Annotated[str, typer.Argument(help="Correct label.", metavar="LABEL")],
) -> None:
    """Label one answer of the queue."""
    session = open_session()
    done = session.ask_as("reviewer", settle_review, request=request, label=given)
    print_json(done) if session.as_json else out.print(f"{done.request} is labelled {done.label}", markup=False)


def _row(item: QueuedAnswer) -> tuple[str, ...]:
    row, kept = item.request, item.content
    answer = "out of scope" if row.out_of_scope else row.prediction or (kept.answer if kept else "")
    return row.id, item.review.reason.value, answer, _sure(row.confidence), kept.text if kept else "–"


def _sure(confidence: float | None) -> str:
    return "" if confidence is None else f"{confidence:.2f}"


apps = {"feedback": feedback, "label": label}
