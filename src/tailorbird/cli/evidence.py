"""``tailorbird evidence`` and ``tailorbird compare``: on what grounds something was decided, and how two candidates stand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tailorbird.cli.groups import command
from tailorbird.cli.output_file import demand_ending
from tailorbird.cli.plain_text import tell
from tailorbird.cli.session import CommandSession, json_text, open_session, out, print_json, say
from tailorbird.domain.errors import NotFound
from tailorbird.reporting import contrast_table, evidence_html, evidence_markdown
from tailorbird.usecases.runs import comparison
from tailorbird.usecases.runs.evidence import show_evidence
from tailorbird.usecases.runs.run_queries import list_runs

evidence = command()
compare = command()


@evidence.command()
def _evidence(
    run: Annotated[str, typer.Argument(help="Id of the run, or its prefix; the newest where none is named.", metavar="[RUN]")] = "",
    to: Annotated[Path | None, typer.Option("--to", help="File to write: .html, .json, or Markdown in .md or .txt.")] = None,
) -> None:
    """Show the evidence for a run's decision on one page: ladder, intervals, costs, forgetting, and rungs not tried."""
    demand_ending(to, ".html", ".json", ".md", ".txt")
    session = open_session()
    facts = session.ask(show_evidence, run=run or _newest(session))
    if to is None:
        print_json(facts) if session.as_json else tell(evidence_markdown(facts))
    else:
        form = to.suffix.lower()
        page = evidence_html(facts) if form == ".html" else json_text(facts) if form == ".json" else evidence_markdown(facts)
        to.write_text(page, encoding="utf-8")
        say(f"written to {to}")


def _newest(session: CommandSession) -> str:
    """The tenant's newest run. Raises NotFound."""
    newest = session.ask(list_runs, limit=1).runs
    if not newest:
        raise NotFound("there is no run yet", "make one: tailorbird adapt OBJECTIVE", code="run_missing")
    say(f"run {newest[0].id} of {newest[0].objective_name}, the newest")
    return newest[0].id


@compare.command()
def _compare(
    one: Annotated[str, typer.Argument(help="Run (its chosen candidate), RUN:RUNG, or digest of a candidate or release.", metavar="A")],
    other: Annotated[str, typer.Argument(help="Second one, named likewise.", metavar="B")],
) -> None:
    """Compare two candidates, in pairs over shared items: intervals, costs, forgetting."""
    session = open_session()
    found = session.ask(comparison.compare, one=one, other=other)
    if session.as_json:
        print_json(found)
        return
    out.print(contrast_table(found))
    for remark in found.remarks:
        out.print(f"  · {remark}", markup=False)


apps = {"evidence": evidence, "compare": compare}
