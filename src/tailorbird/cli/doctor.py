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
from tailorbird.usecases.runs.checkup import examine_objective

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
            for line in ("", *batch_lines(checkup.rungs[0].examination, rows)):
                out.print(line, markup=False, highlight=False, soft_wrap=True)
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


def batch_lines(examination: Examination, rows: int) -> list[str]:
    """The first row token by token, with its mask; the next ones as what is read and what is learned, with a bar between two tokens."""
    shown = examination.first_batch[:rows]
    lines = [f"the first batch, {len(shown)} of {len(examination.first_batch)} rows:"]
    for number, row in enumerate(shown, start=1):
        lines.append(f"  row {number}: {len(row)} tokens, {sum(token.learned for token in row)} of them learned")
        told = _table(row) if number == 1 else [f"{word}: {_tokens(row, word == 'learned')}" for word in ("read", "learned")]
        lines += [f"    {line}" for line in told]
    return lines


#: Tokens at either end of a long stretch that are shown.
_ENDS = 40


def _table(row: tuple[ShownToken, ...]) -> list[str]:
    """A line for each token: its place, mask, id and text; of a long stretch with one mask both ends."""
    lines = [f"{'place':>6}  {'mask':<7}  {'id':>7}  token"]
    for _, stretch in groupby(enumerate(row), key=lambda numbered: numbered[1].learned):
        numbered = list(stretch)
        left_out = len(numbered) - 2 * _ENDS if len(numbered) > 3 * _ENDS else 0
        cut = [*numbered[:_ENDS], *numbered[_ENDS + left_out :]] if left_out else numbered
        for position, (place, token) in enumerate(cut):
            if left_out and position == _ENDS:
                lines.append(f"{'':>6}  ... {left_out} more tokens ...")
            mark = " (control)" if token.control else ""
            lines.append(f"{place:>6}  {'learned' if token.learned else 'read':<7}  {token.id:>7}  {_visible(token.text)}{mark}")
    return lines


def _visible(text: str) -> str:
    """A token's text with its white space and what cannot be printed, between bars."""
    shown = "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text)
    return f"|{shown}|"


def _tokens(row: tuple[ShownToken, ...], learned: bool) -> str:
    return "│".join(token.text.replace("\n", "⏎") for token in row if token.learned is learned)


apps = {"doctor": doctor}
