"""``tailorbird plan`` and ``tailorbird adapt``: from an objective to a decision."""

from __future__ import annotations

import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from tailorbird.cli.narrator import Narrator
from tailorbird.cli.session import As, AsJson, Key, Session, Workspace, err, open_session, out, print_json, say
from tailorbird.domain.evidence import Evidence, GateResult
from tailorbird.domain.ladder import Ladder, SealedTest
from tailorbird.domain.objective import Objective
from tailorbird.foundations.canonical import short
from tailorbird.lifecycle import adapt as climbing
from tailorbird.reporting import gate_table, ladder_reasons, ladder_table, plan_table

ObjectivePath = Annotated[Path, typer.Argument(help="The objective file.", metavar="OBJECTIVE")]

plan = typer.Typer()
adapt = typer.Typer()


@plan.command()
def _plan(objective: ObjectivePath, workspace: Workspace = None, who: As = None, key: Key = None, as_json: AsJson = False) -> None:
    """Show what adapt would do, in what order, at what cost, and why. Freezes the data and fetches the base model; trains nothing."""
    session = open_session(workspace, who, key)
    stage = climbing.plan(session.parts, session.actor(), objective, Narrator(err).progress())
    assert stage.plan is not None
    if as_json:
        print_json(stage.plan)
        return
    out.print(plan_table(stage.plan))
    say(f"next: tailorbird adapt {objective}")


@adapt.command()
def _adapt(objective: ObjectivePath, workspace: Workspace = None, who: As = None, key: Key = None, as_json: AsJson = False) -> None:
    """Climb from the cheapest rung, stop where the goal is proven met, and draft the release. Killed, it goes on where it was."""
    _end_cleanly_on_sigterm()
    session = open_session(workspace, who, key)
    ended = climbing.adapt(session.parts, session.actor(), objective, Narrator(err).progress())
    if as_json:
        assert ended.conclusion is not None
        print_json(ended.conclusion)
        return
    _show(session, ended)


def _end_cleanly_on_sigterm() -> None:
    """A polite end of the process is an interruption: the step in hand is given back, training keeps its checkpoint."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def _show(session: Session, ended: climbing.Adaptation) -> None:
    if ended.resumed == len(ended.steps):
        say(f"run {ended.run.id} was finished already: nothing was done again, this is its record")
    elif ended.resumed:
        say(f"run {ended.run.id} went on after {ended.resumed} finished steps")
    conclusion = ended.conclusion
    assert conclusion is not None
    with session.parts.ledger.work(ended.run.tenant, write=False) as work:
        objective = work.records.get(Objective, ended.run.objective)
        ladder = work.records.get(Ladder, conclusion.ladder)
        test = work.records.get(SealedTest, conclusion.test) if conclusion.test else None
        gate = work.records.get(GateResult, test.gate) if test else None
        evidence = work.records.get(Evidence, test.evidence) if test else None
    out.print(ladder_table(ladder, objective))
    for reason in ladder_reasons(ladder):
        out.print(f"  · {reason}", markup=False)
    out.print(f"decision: {ladder.reason}", markup=False)
    if test and gate and evidence:
        out.print(f"\nsealed test (look {test.look}, {evidence.n} items): {gate.verdict.value}", markup=False)
        out.print(gate_table(gate))
    if conclusion.release is None:
        out.print(f"\nno release: {conclusion.reason}", markup=False)
        return
    out.print(f"\nrelease {short(conclusion.release)} is signed and gated ({conclusion.release})", markup=False)
    say(f"next: somebody else approves it: tailorbird release approve {short(conclusion.release)} --as approver")


apps = {"plan": plan, "adapt": adapt}
