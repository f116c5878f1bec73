"""``tailorbird doctor``: what would go wrong with the training of an objective, before anything is spent."""

from __future__ import annotations

from itertools import groupby
from typing import Annotated

import typer

from tailorbird.cli.adapt import ObjectivePath
from tailorbird.cli.groups import command
from tailorbird.cli.invocation import ExitStatus
from tailorbird.cli.progress import ProgressDisplay
from tailorbird.cli.session import err, open_session, out, print_json
from tailorbird.domain.preflight import Examination, ShownToken
from tailorbird.usecases.runs.plan_variants import examine_objective

Rows = Annotated[int, typer.Option("--rows", help="Number of rows of the first batch to show.", min=0)]

doctor = command()


@doctor.command()
def _doctor(objective: ObjectivePath, rows: Rows = 2) -> None:
    """Check the training job of an objective: mask, lengths, templates, labels, serving, gradients, memory. Exit status 1 on errors.

    The JSON holds the first batch with its rows' texts.
    """
    session = open_session()
    with ProgressDisplay(err) as progress:
        checkup = examine_objective(session.deps, session.actor(), objective, progress)
    if session.as_json:
        print_json(checkup)
    else:
        for refusal in checkup.left_out:
            out.print(f"{refusal.rung.value}: not planned: {refusal.reason}", markup=False)
        for one in checkup.rungs:
            out.print(f"\n{one.rung.rung.value} {one.rung.variant}: {_verdict(one.examination)}", markup=False)
            _show(one.examination)
        if rows and checkup.rungs:
            _show_batch(checkup.rungs[0].examination, rows)
    if not checkup.healthy:
        raise typer.Exit(ExitStatus.FAILED)


def _verdict(examination: Examination) -> str:
    counted = groupby(sorted(finding.severity.value for finding in examination.findings))
    return ", ".join(f"{len(list(found))} {severity}" for severity, found in counted) or "nothing found"


def _show(examination: Examination) -> None:
    for name, number in examination.measured.items():
        shown = f"{number:,.0f}" if number == int(number) else f"{number:.3g}"
        out.print(f"  {name.replace('_', ' ')}: {shown}", markup=False)
    for finding in examination.findings:
        out.print(f"  {finding.severity.value} [{finding.code}] {finding.what}", markup=False, soft_wrap=True)
        out.print(f"    remedy: {finding.remedy}", markup=False, soft_wrap=True)


def _show_batch(examination: Examination, rows: int) -> None:
    """Read tokens and learned ones, with a bar between two tokens."""
    out.print(f"\nthe first batch, {min(rows, len(examination.first_batch))} of {len(examination.first_batch)} rows:", markup=False)
    for number, row in enumerate(examination.first_batch[:rows], start=1):
        out.print(f"  row {number}: {len(row)} tokens, {sum(token.learned for token in row)} of them learned", markup=False)
        for word, learned in (("read", False), ("learned", True)):
            out.print(f"    {word}: {_tokens(row, learned)}", markup=False, highlight=False, soft_wrap=True)


def _tokens(row: tuple[ShownToken, ...], learned: bool) -> str:
    return "│".join(token.text.replace("\n", "⏎") for token in row if token.learned is learned)


apps = {"doctor": doctor}
