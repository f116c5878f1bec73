"""``tailorbird watch``, ``feedback``, ``label`` and ``explain``: what happens in production."""

from __future__ import annotations

from typing import Annotated

import typer

from tailorbird.cli.invocation import ExitStatus, command, command_group, tell
from tailorbird.cli.session import answer, open_session, print_json, print_table, say, show
from tailorbird.domain.feedback import FeedbackGiven, FeedbackKind, Severity, Signal
from tailorbird.reporting.documents import explanation_markdown
from tailorbird.reporting.tables import Columns
from tailorbird.usecases.feedback import give_feedback, list_reviews, settle_review
from tailorbird.usecases.monitoring.explain import explain_request
from tailorbird.usecases.monitoring.traffic import list_signals
from tailorbird.usecases.monitoring.watch import watch_production

watch = command_group(runs_alone=True)


@watch.callback()
def _watch(
    context: typer.Context,
) -> None:
    """Take readings of drift, service and data now, store them, and send alerts. Exit status 3 on an alarm.

    `tailorbird watch list` shows earlier readings; `tailorbird worker` takes them on a schedule.
    """
    if context.invoked_subcommand:
        return
    session = open_session()
    found = session.ask_as("operator", watch_production)
    if session.as_json:
        print_json(found)
    else:
        _show(found.signals)
        say(
            f"{len(found.signals)} readings, {len(found.told)} of them news"
            + (f"; {found.undelivered} notifiers did not answer" if found.undelivered else "")
        )
    if any(signal.severity is Severity.ALARM for signal in found.signals):
        raise typer.Exit(ExitStatus.ALARM)


@watch.command("list")
def _list(
    objective: Annotated[str | None, typer.Option(help="Only readings of this objective.")] = None,
    last: Annotated[int, typer.Option(help="Number of newest readings.", min=1, max=1000)] = 50,
) -> None:
    """Show earlier readings, newest first."""
    found = open_session().ask(list_signals, limit=last, objective=objective).signals
    answer(found)
    _show(found)


def _show(signals: tuple[Signal, ...]) -> None:
    columns: Columns = {
        "": "severity",
        "at": lambda one: f"{one.at:%m-%d %H:%M}",
        "objective": "objective",
        "about": "release",
        "reading": "name",
        "what it says": "text",
    }
    print_table(columns, signals)


feedback = command()
label = command_group("Label low-confidence answers and a random sample; labels are recorded as feedback.")
RequestArgument = Annotated[str, typer.Argument(help="Id of the request, from the header x-tailorbird-request-id.", metavar="REQUEST")]


@feedback.command()
def _feedback(
    request: RequestArgument,
    kind: Annotated[FeedbackKind, typer.Argument(help="thumb, label, csat or outcome.")],
    value: Annotated[str, typer.Argument(help="up or down; the correct label; 1 to 5; good or bad.")],
) -> None:
    """Record feedback on an answer. Programs use POST /api/feedback with their API key."""
    filed = open_session().ask_as("reviewer", give_feedback, FeedbackGiven(request=request, kind=kind, value=value))
    show(filed, f"{filed.kind.value} {filed.value} for {filed.request}")


@label.command("list")
def _list_queue(
    limit: Annotated[int, typer.Option(help="Number of oldest answers.", min=1, max=500)] = 50,
) -> None:
    """List the queue, oldest first."""
    found = open_session().ask_as("reviewer", list_reviews, limit=limit)
    columns: Columns = {
        "request": "request.id",
        "why": "review.reason",
        "answer": lambda item: (
            "out of scope" if item.request.out_of_scope else item.request.prediction or (item.content and item.content.answer)
        ),
        "sure": lambda item: None if item.request.confidence is None else f"{item.request.confidence:.2f}",
        "message (where kept)": lambda item: item.content.text if item.content else "–",
    }
    answer(found)
    print_table(columns, found.items)
    say(f"{found.total} wait; next: tailorbird label answer REQUEST LABEL")


@label.command("answer")
def _answer(
    request: RequestArgument,
    given: Annotated[str, typer.Argument(help="Correct label.", metavar="LABEL")],
) -> None:
    """Label one answer of the queue."""
    done = open_session().ask_as("reviewer", settle_review, request=request, label=given)
    show(done, f"{done.request} is labelled {done.label}")


explain = command()


@explain.command()
def _explain(
    request: Annotated[str, typer.Argument(help="Id of the request, from the header x-tailorbird-request-id.")],
) -> None:
    """Trace an answer to its release, evidence, data and approvers."""
    found = open_session().ask(explain_request, request=request)
    answer(found)
    tell(explanation_markdown(found))


apps = {"watch": watch, "feedback": feedback, "label": label, "explain": explain}
