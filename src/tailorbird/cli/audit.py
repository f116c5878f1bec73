"""``tailorbird audit``: the tamper-evident log."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tailorbird.cli.groups import command_group
from tailorbird.cli.invocation import ExitStatus
from tailorbird.cli.session import open_session, out, print_json, print_table, say
from tailorbird.crypto.canonical_json import short
from tailorbird.sdk.witness_notes import read_notes
from tailorbird.usecases.maintenance.audit import (
    export_log,
    log_public_key,
    make_checkpoint,
    prove_consistency,
    prove_inclusion,
    read_log,
    verify_log,
)
from tailorbird.usecases.maintenance.checkpoint_shipping import settle_forks
from tailorbird.usecases.maintenance.log_key import rotate_log_key

audit = command_group()


@audit.callback()
def _audit() -> None:
    """Verify, sign, prove, read and export the tamper-evident log."""


@audit.command("verify")
def _verify(
    witness: Annotated[
        list[str] | None, typer.Option(help="File or URL with checkpoints that were kept elsewhere, repeatable.", metavar="FILE|URL")
    ] = None,
) -> None:
    """Recompute the log; check rows, checkpoints and places that hold them. Exit status 1 when the log is not intact."""
    session = open_session()
    report = session.ask(verify_log, witnessed=tuple(note for place in witness or () for note in read_notes(place)))
    if session.as_json:
        print_json(report)
    elif report.intact:
        out.print(f"the log is intact: {report.size} events, {report.checkpoints} checkpoints, head {report.root[:16]}", markup=False)
    for problem in report.problems:
        say(f"problem: {problem}")
    for warning in report.warnings:
        say(f"warning: {warning}")
    if not report.intact:
        raise typer.Exit(ExitStatus.FAILED)


@audit.command("settle")
def _settle(reason: Annotated[str, typer.Option(help="Why the log does not continue what was shipped.")]) -> None:
    """Settle a fork of the log, after a restored backup, say. Promotions go on afterwards."""
    session = open_session()
    settled = session.ask_as("admin", settle_forks, reason=reason)
    if session.as_json:
        print_json(settled)
    for fork in () if session.as_json else settled.forks:
        out.print(f"settled: {fork.text}", markup=False)


@audit.command("rotate-key")
def _rotate_key() -> None:
    """Replace the key that signs checkpoints and seals the log, by cross-signing; print the new verifier key."""
    session = open_session()
    changed = rotate_log_key(session.deps, session.actor("admin"))
    print_json(changed) if session.as_json else typer.echo(changed.verifier_key)


@audit.command("checkpoint")
def _checkpoint() -> None:
    """Sign the current log head and ship the checkpoint to the configured receivers; keep the printed note on another machine."""
    session = open_session()
    signed = session.ask_as("admin", make_checkpoint)
    print_json(signed) if session.as_json else typer.echo(signed.note, nl=False)


@audit.command("log")
def _log(
    last: Annotated[int, typer.Option(help="Number of newest entries.", min=1, max=1000)] = 30,
    about: Annotated[str, typer.Option(help="Only entries about this subject (digest, run or name).")] = "",
    before: Annotated[int | None, typer.Option(help="Only entries before this one.", metavar="ENTRY", min=0, show_default=False)] = None,
) -> None:
    """Show the tenant's newest log entries."""
    session = open_session()
    page = session.ask(read_log, limit=last, subject=about, before=before)
    found = page.entries[::-1]
    if session.as_json:
        print_json(found)
        return
    rows = [(str(e.index), f"{e.event.at:%Y-%m-%d %H:%M:%S}", e.event.actor, e.event.kind, _brief(e.event.subject)) for e in found]
    print_table(("entry", "time", "who", "what", "subject"), rows)
    if about and not found:
        say(f"no entry is about {about}: name a subject whole, or six digits of a digest or more")
    for entry in found:
        if entry.event.kind == "access.denied":
            facts = entry.event.data
            asked = f" {facts['asked']}" if facts.get("asked") else ""
            out.print(f"entry {entry.index}, denied: {facts.get('action')}{asked} ({facts.get('code')})", markup=False)
        if (said := page.remarks.get(str(entry.event.data.get("reason")))) is not None:
            out.print(f"entry {entry.index}, why: {said}", markup=False)


@audit.command("prove")
def _prove(index: Annotated[int, typer.Argument(help="Index of the entry.", min=0)]) -> None:
    """Print an inclusion proof for one entry, as JSON."""
    print_json(open_session().ask(prove_inclusion, index=index))


@audit.command("consistency")
def _consistency(
    first: Annotated[int, typer.Argument(help="Size of an earlier checkpoint.", min=1)],
    second: Annotated[int | None, typer.Argument(help="Size of a later one. [default: now]", min=1)] = None,
) -> None:
    """Print a consistency proof between two log sizes, as JSON."""
    print_json(open_session().ask(prove_consistency, first=first, second=second))


@audit.command("export")
def _export(
    target: Annotated[Path | None, typer.Argument(help="File to write. [default: stdout]")] = None,
) -> None:
    """Export every entry as JSON lines, for verification without tailorbird (scripts/verify_audit_log.py)."""
    session = open_session()
    actor = session.actor("admin")
    if target is None:
        export_log(session.deps, actor, sys.stdout)
        return
    with target.open("x", encoding="utf-8") as file:
        count = export_log(session.deps, actor, file)
    key = log_public_key(session.deps)
    if session.as_json:
        print_json({"file": str(target), "entries": count, "log_key": key})
        return
    say(f"{count} entries written to {target}; the log's key is {key}")


def _brief(subject: str) -> str:
    return short(subject) if subject.startswith("sha256:") else subject


apps = {"audit": audit}
