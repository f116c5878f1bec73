"""``tailorbird plan``: what adapt would do, at what cost, and why; what another machine would do; how good the estimates were so far."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tailorbird.cli.adapt import Why, narrated
from tailorbird.cli.groups import command
from tailorbird.cli.output_file import demand_ending
from tailorbird.cli.session import CommandSession, another_release, open_session, out, print_json, say
from tailorbird.cli.tenant_runs import Tenants, plan_tenants
from tailorbird.crypto.canonical_json import digest_of, short
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.plan import Plan
from tailorbird.domain.release import ReleaseState
from tailorbird.reporting import accuracy_table, plan_page, plan_table
from tailorbird.sdk.remote_runs import follow, is_planned, submit_file
from tailorbird.usecases.climb import snapshot_and_plan
from tailorbird.usecases.climb.snapshot_and_plan import planned
from tailorbird.usecases.registry import validated
from tailorbird.usecases.releases.release_queries import show_release
from tailorbird.usecases.runs.run_queries import RunReport, show_run
from tailorbird.usecases.runs.submit import plan as plan_here
from tailorbird.usecases.runs.what_if import PlanChange, replan

MaybeObjective = Annotated[Path | None, typer.Argument(help="Objective file.", metavar="OBJECTIVE", show_default=False)]
WhatIf = Annotated[
    str,
    typer.Option(
        "--what-if", help="Plan for another machine, budget or traffic: memory=8,gpu=h100,cores=16,budget=50,hours=2,price=3,traffic=50000."
    ),
]
ShowAccuracy = Annotated[bool, typer.Option("--accuracy", help="Show earlier estimates beside measured training times.")]
Page = Annotated[Path | None, typer.Option("--html", help="Write the plan as an HTML page with the ladder chart.", show_default=False)]

plan = command()


@plan.command()
def _plan(
    objective: MaybeObjective = None,
    tenants: Tenants = "",
    what_if: WhatIf = "",
    show_accuracy: ShowAccuracy = False,
    page: Page = None,
    why: Why = False,
) -> None:
    """Show what adapt would train, in what order, at what cost, and why. Freezes data and downloads the base model; trains nothing."""
    demand_ending(page, ".html")
    session = open_session(names_tenants=bool(tenants))
    if tenants:
        _refuse_beside_tenants(what_if, show_accuracy, page, why)
        plan_tenants(session, _given(objective), tenants)
        return
    if show_accuracy:
        record = session.ask(snapshot_and_plan.accuracy)
        print_json(record) if session.as_json else out.print(accuracy_table(record.errors))
        return
    objective = _given(objective)
    changes = changes_of(what_if)
    run, found = _planned(session, objective)
    if changes:
        found = session.ask(replan, validated(PlanChange, {"run": run} | changes))
    if page is not None:
        page.write_text(plan_page(found, objective.stem), encoding="utf-8")
        say(f"the page lies in {page}")
    if session.as_json:
        print_json(found)
        return
    out.print(plan_table(found, why=why))
    if not why:
        say("why each rung is planned as it is, with sources: the same command with --why")
    if changes:
        say(f"this is what would be planned with {what_if}; nothing of it is kept")
        return
    _tell_next(session, objective, run)


def _tell_next(session: CommandSession, objective: Path, run: str) -> None:
    report = session.ask(show_run, run=run)
    if report.manifest is not None and report.manifest.quarantined:
        snapshot = short(digest_of(report.manifest))
        say(f"rows set aside: {report.manifest.quarantined:,}; which, and why each: tailorbird data show {snapshot} --set-aside")
    say(_next(session, objective, report))


def _next(session: CommandSession, objective: Path, report: RunReport) -> str:
    """What follows a plan; where its run has ended already, how it ended."""
    ended = report.conclusion
    if ended is None or ended.release is None:
        return f"next: tailorbird adapt {objective}"
    state = session.ask(show_release, digest=ended.release).state
    if state in (ReleaseState.RETIRED, ReleaseState.REJECTED):
        told = f"this was adapted already: its release {short(ended.release)} is {state.value}, which is final"
        return f"{told}\n{another_release(str(objective))}"
    return f"this was adapted already: release {short(ended.release)} is {state.value}; tailorbird adapt {objective} shows how it came"


def _given(objective: Path | None) -> Path:
    if objective is None:
        raise InvalidInput("no objective was named", "name the file: tailorbird plan objective.yaml; or ask for --accuracy")
    return objective


def _refuse_beside_tenants(*options: object) -> None:
    if any(options):
        hint = "plan one of them with it: tailorbird plan OBJECTIVE --as TENANT/NAME"
        raise InvalidInput("--tenants goes with no other option of plan", hint, code="tenants_options")


def _planned(session: CommandSession, objective: Path) -> tuple[str, Plan]:
    with narrated(session, f"tailorbird plan {objective}") as progress:
        if session.server:
            run = submit_file(session, objective, "plan")
            found = follow(session, run, progress, until=lambda job: is_planned(session, job)).plan
            run_id = run.id
        else:
            context = plan_here(session.deps, session.actor(), objective, progress)
            run_id, found = context.run.id, planned(context)
    assert found is not None
    return run_id, found


def changes_of(text: str) -> dict[str, str]:
    """``memory=8,gpu=h100`` as a mapping. Raises InvalidInput."""
    changes: dict[str, str] = {}
    known = [field for field in PlanChange.model_fields if field != "run"]
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = (side.strip() for side in part.partition("="))
        if not value or name not in known:
            raise InvalidInput(f"--what-if cannot be read at {part!r}", f"write NAME=VALUE with one of: {', '.join(known)}", code="what_if")
        if name in changes:
            raise InvalidInput(f"--what-if says {name} twice", "say it once", code="what_if")
        changes[name] = value
    return changes


apps = {"plan": plan}
