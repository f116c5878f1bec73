"""``tailorbird evidence`` and ``tailorbird compare``: on what grounds something was decided, and how two candidates stand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tailorbird.cli.session import open_session, out, print_json, say
from tailorbird.reporting import contrast_table, evidence_html, evidence_markdown
from tailorbird.usecases.operations import evidence as asking
from tailorbird.usecases.operations.runs import OneRun

evidence = typer.Typer(add_completion=False)
compare = typer.Typer(add_completion=False)


@evidence.command()
def _evidence(
    run: Annotated[str, typer.Argument(help="Id of the run, or how it begins.", metavar="RUN")],
    to: Annotated[Path | None, typer.Option("--to", help="Write to this file: HTML where it ends in .html, else Markdown.")] = None,
) -> None:
    """Show the grounds of a run's decision on one page: the ladder, intervals, costs, forgetting, and what was not tried."""
    session = open_session()
    facts = session.ask(asking.SHOW, OneRun(run=run))
    if session.as_json:
        print_json(facts)
    elif to is None:
        typer.echo(evidence_markdown(facts))
    else:
        to.write_text(evidence_html(facts) if to.suffix == ".html" else evidence_markdown(facts), encoding="utf-8")
        say(f"written to {to}")


@compare.command()
def _compare(
    one: Annotated[str, typer.Argument(help="A run (its chosen candidate), RUN:RUNG, a candidate's digest or a release's.", metavar="A")],
    other: Annotated[str, typer.Argument(help="The same.", metavar="B")],
) -> None:
    """Compare two candidates: paired where they answered the same items, with intervals, costs and what was forgotten."""
    session = open_session()
    found = session.ask(asking.COMPARE, asking.TwoOfThem(one=one, other=other))
    if session.as_json:
        print_json(found)
        return
    out.print(contrast_table(found))
    for remark in found.remarks:
        out.print(f"  · {remark}", markup=False)


apps = {"evidence": evidence, "compare": compare}
