"""``--tenants`` of ``plan`` and ``adapt``: one objective for many tenants, and the exit status of them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from tailorbird.cli.invocation import ExitStatus, told_if_interrupted
from tailorbird.cli.progress import ProgressDisplay
from tailorbird.cli.session import CommandSession, err, out, print_json, say
from tailorbird.domain.errors import InvalidInput
from tailorbird.sdk import TenantRun, TenantRuns, TenantTable
from tailorbird.sdk.tenant_runs import ALL
from tailorbird.usecases import Progress

Tenants = Annotated[
    str,
    typer.Option(
        "--tenants",
        help='For many tenants, each on its own rows: a,b,c, a file with a name per line, or all. The objective says tenant: "{tenant}".',
        show_default=False,
    ),
]


def adapt_tenants(session: CommandSession, objective: Path, tenants: str, *, detach: bool) -> None:
    """Climbs for each tenant, or leaves it to workers, and shows them all. Raises typer.Exit where one failed or got no release."""
    runs = _opened(session, objective, tenants)
    found = tuple(runs.submit()) if detach else _followed(session, runs, runs.adapt, f"tailorbird adapt {objective} --tenants {tenants}")
    _show(session, found)
    drafted = [each for each in found if each.release]
    if drafted and not session.as_json:
        say("next: somebody else of each tenant approves it: tailorbird release approve RELEASE --as TENANT/approver")
    _end(found)


def plan_tenants(session: CommandSession, objective: Path, tenants: str) -> None:
    """Plans for each tenant, and shows all of them at the end. Raises typer.Exit where one failed."""
    runs = _opened(session, objective, tenants)
    found = _followed(session, runs, runs.plan, f"tailorbird plan {objective} --tenants {tenants}")
    _show(session, found)
    if not session.as_json:
        say(f"next: tailorbird adapt {objective} --tenants {tenants}; one plan whole: tailorbird plan {objective} --as TENANT/NAME")
    _end(found)


def _opened(session: CommandSession, objective: Path, tenants: str) -> TenantRuns:
    """Raises InvalidInput for an identity that is named with a tenant: it would be another one in the others."""
    if session.who and "/" in session.who and tenants != ALL:
        hint = f"name the identity alone, and it acts in each tenant with its key there: --as {session.name()}"
        raise InvalidInput(f"{session.who} is an identity of one tenant", hint, code="tenants_identity")
    return TenantRuns(session, objective, tenants)


def _followed(
    session: CommandSession, runs: TenantRuns, work: Callable[[Progress], Iterator[TenantRun]], command: str
) -> tuple[TenantRun, ...]:
    found: list[TenantRun] = []
    narrator = ProgressDisplay(err)
    with told_if_interrupted(narrator, command, elsewhere=bool(session.server)), narrator as progress:
        try:
            for each in work(progress):
                found.append(each)
        except KeyboardInterrupt:
            progress.tell(f"{len(found)} of {len(runs.tenants)} tenants are done, and stay so")
            raise
    return tuple(found)


def _show(session: CommandSession, found: tuple[TenantRun, ...]) -> None:
    if session.as_json:
        print_json(found)
    else:
        out.print(TenantTable(found).table())


def _end(found: tuple[TenantRun, ...]) -> None:
    states = {each.state for each in found}
    if "failed" in states:
        raise typer.Exit(ExitStatus.FAILED)
    if "no_release" in states:
        raise typer.Exit(ExitStatus.NO_RELEASE)
