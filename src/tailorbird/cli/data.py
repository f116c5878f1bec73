"""``tailorbird data``: what the data are, how they were cleaned, what people decided about them, and who was forgotten."""

from __future__ import annotations

import csv
import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml

from tailorbird.cli.adapt import ObjectivePath
from tailorbird.cli.invocation import command_group
from tailorbird.cli.session import (
    answer,
    demand_ending,
    err,
    list_verb,
    narrated,
    open_session,
    out,
    print_json,
    print_table,
    say,
    show,
)
from tailorbird.crypto.canonical_json import digest_of, short
from tailorbird.domain.erasure import Certificate, Erasure, ErasureState, Treatment
from tailorbird.domain.errors import InvalidInput, NotFound
from tailorbird.reporting.tables import Columns, inspection_table
from tailorbird.sdk.progress import ProgressDisplay
from tailorbird.sdk.runs import plan_run
from tailorbird.system.files import flush
from tailorbird.usecases import snapshots
from tailorbird.usecases.erasure import erase
from tailorbird.usecases.erasure.erase import PURPOSE, list_erasures
from tailorbird.usecases.snapshots import (
    Fix,
    SnapshotView,
    diff_snapshots,
    inspect_uploaded,
    list_snapshots,
    prove_row,
)

if TYPE_CHECKING:
    from tailorbird.usecases.annotation import Annotations


#: What of a request goes with a person, in words.
_WORDS = {
    "kept": "kept words",
    "feedback": "labels given",
    "review": "places in the queue for people",
    "trace": "traces of whom it was for",
}


def show_snapshot(found: SnapshotView) -> None:
    """Counts, splits, and where to read on."""
    manifest = found.manifest
    out.print(f"snapshot {short(found.digest)} of {manifest.tenant}/{manifest.objective}")
    columns: Columns = {
        "read": "read",
        "duplicates": "duplicates",
        "set aside": lambda one: one.quarantined - one.removed,
        "removed": "removed",
        "kept": "size",
        **{split: f"counts.{split}" for split in ("train", "dev", "test")},
    }
    print_table(columns, [manifest])
    for step in found.report.flow:
        gone = ", ".join(f"{count:,} {code}" for code, count in step.reasons.items())
        out.print(f"  {step.name}: {step.before:,} → {step.after:,}" + (f" ({gone})" if gone else ""))
    if found.set_aside:
        print_table({"file": "file", "line": lambda each: str(each.line), "code": "code", "why": "reason"}, found.set_aside)
    elif manifest.quarantined:
        out.print(f"each row set aside, with its reason: tailorbird data show {short(found.digest)} --set-aside")
    for kind in found.report.personal:
        out.print(f"  {kind.kind.value}: {kind.occurrences:,} in {kind.rows:,} rows, {kind.action.value}")
    out.print(f"root {manifest.root}")
    if manifest.expires:
        out.print(f"the first retention date is {manifest.expires.isoformat()}")
    if found.followed_by:
        say(f"this snapshot was followed by {short(found.followed_by)}: a person was erased, or rows were fixed")


def show_certificate(erasure: Erasure, certificate: Certificate) -> None:
    """What was found, what was done, what is left to do."""
    signed = f"signed by {erasure.signature.identity}" if erasure.signature else "not signed yet: run the same command again"
    out.print(f"erasure {erasure.id}: {erasure.state.value}, certificate {short(erasure.certificate or '')}, {signed}")
    for one in certificate.snapshots:
        gone = f"{len(one.rows):,} rows gone, each proved in the old root and absent from the new"
        out.print(f"  {one.objective}: snapshot {short(one.old)} → {short(one.new)}, {gone}")
        if one.documents is not None:
            proved = len(one.documents.proofs)
            out.print(f"    and {one.documents.count:,} documents, {proved:,} of them proved likewise")
    counts = {name: len(found) if isinstance(found, tuple) else found for name, found in certificate.reach}
    out.print("reached: " + ", ".join(f"{what} {count:,}" for what, count in counts.items()))
    destroyed = f"{len(certificate.purged):,} artifacts, {len(certificate.forgotten):,} prompts"
    out.print(f"destroyed, with the person's words: {destroyed}")
    if certificate.uploads:
        out.print(f"  {len(certificate.uploads):,} of them uploaded files")
    if certificate.unread:
        named = ", ".join(short(digest) for digest in certificate.unread)
        out.print(f"not searched, neither text nor table: uploaded files {named}")
    for limit in certificate.not_looked_for:
        out.print(f"NOT looked for: {limit.what}, in {', '.join(limit.places)}: {limit.why}")
    for each in certificate.answers:
        told = f"{len(each.items)} items and {each.reasons} reasons"
        out.print(f"taken from label review {short(each.sheet)}: {told}; its digest, as releases sign it, stays")
    went = Counter(what for each in certificate.words for what in each.what)
    if went:
        told = ", ".join(f"{_WORDS[what]} {count:,}" for what, count in sorted(went.items()))
        out.print(f"taken from {len(certificate.words):,} requests: {told}")
    if certificate.earlier:
        out.print(f"this certificate follows {short(certificate.earlier)}, which stays valid")
    duties: Columns = {
        "by": lambda duty: duty.due.isoformat(),
        "to do": lambda duty: duty.kind.replace("_", " "),
        "what": "what",
        "why": "why",
    }
    print_table(duties, certificate.duties)
    _show_places(certificate)


def _show_places(certificate: Certificate) -> None:
    """What was done about each place."""
    limited = {name for limit in certificate.not_looked_for for name in limit.places}
    for treatment in Treatment:
        places = [place.name for place in certificate.places if place.treatment is treatment]
        if places:
            told = (f"{name} (not for all)" if name in limited else name for name in places)
            out.print(f"{treatment.value.replace('_', ' ')}: {', '.join(told)}")


app = command_group("Inspect, curate, correct, compare and prove data; erase a data subject.")
SnapshotArgument = Annotated[
    str, typer.Argument(help="Digest or its prefix, an objective's name, a run, or a release.", metavar="SNAPSHOT")
]


@app.command("inspect")
def _inspect(
    name: Annotated[str, typer.Argument(help="File, folder or address.", metavar="FILE")],
) -> None:
    """Inspect a file: format, encoding, columns and their likely roles. Proposes the objective's source section; stores nothing."""
    session = open_session()
    from tailorbird import data

    if session.server and "://" not in name:
        found = session.ask(inspect_uploaded, name=Path(name).name, file=session.remote().upload(Path(name)))
    else:
        with ProgressDisplay(err) as progress:
            found = data.inspect_file(name, Path(), progress.tell)
    answer(found)
    # Format, columns, guesses, and the source to write.
    facts = [found.kind, found.encoding, f"separated by {found.separator!r}" if found.separator else None, f"{found.rows:,} rows"]
    out.print(f"{found.name}: {', '.join(fact for fact in facts if fact)}")
    out.print(inspection_table(found))
    for code, count in found.unusable.items():
        say(f"{count:,} records cannot be read: {code}")
    for note in found.notes:
        say(f"note: {note}")
    out.print(f"\n{found.proposal}", end="")
    say("look whether this is right, fill in whose data it is and on what terms, and put it into your objective")


@app.command("curate")
def _curate(objective: ObjectivePath) -> None:
    """Read, clean, split and freeze an objective's data as a snapshot. Interrupted runs resume; adapt continues the same run."""
    from tailorbird.usecases.runs.submit import curate

    session = open_session()
    with narrated(f"tailorbird data curate {objective}", elsewhere=bool(session.server)) as progress:
        if session.server:
            run = plan_run(session, objective, progress).run.id
            found = session.ask(snapshots.show_snapshot, snapshot=run)
        else:
            found = curate(session.deps, session.actor(), objective, progress)
    answer(found)
    show_snapshot(found)
    say(f"next: tailorbird data show {short(found.digest)} --set-aside; tailorbird plan {objective}")


@app.command("annotate")
def _annotate(
    objective: ObjectivePath,
    into: Annotated[Path, typer.Option(help="CSV file for the labelled texts; it must not exist.")],
) -> None:
    """Have the objective's teacher, a hosted model, label texts. Kept are those that it labels alike twice.

    What ends early writes what is labelled by then. Texts that are rows of the objective's snapshot are not sent.
    """
    from tailorbird.usecases.annotation import annotate

    session = open_session()
    session.refuse_server()
    demand_ending(into, ".csv")

    def hand_over(found: Annotations) -> None:
        csv.writer(file).writerows([("text", "label"), *found.rows])
        flush(file)
        path = path_beside(objective, into)
        left = found.left_out
        say(f"{len(found.rows):,} texts are labelled; {found.disagreed:,} were labelled in two ways, {found.unlabelled:,} not at all;")
        say(f"not sent: {left.personal:,} with personal data, {left.repeated:,} of the snapshot; {left.blank:,} rows had no text")
        if found.unasked:
            say(f"{found.unasked:,} are left: add the source below, run tailorbird data curate, and then this command with another file")
        say(f"it cost {found.use.money:.4f} {found.use.currency}; to learn from them, add under `data`:")
        generated = {"endpoint": found.use.endpoint, "model": found.model, "at": found.at.isoformat(timespec="seconds")}
        source = {"origin": f"texts labelled by {found.model}", "license": "FILL IN: on what terms it may be used", "generated": generated}
        out.print(yaml.safe_dump([{"path": path, "split": "train", "source": source}], sort_keys=False), end="")

    try:
        file = into.open("x", newline="", encoding="utf-8")
    except FileExistsError:
        raise InvalidInput(f"{into} is there already", "name another file, or move that one away") from None
    try:
        with file, narrated(f"tailorbird data annotate {objective} --into {into}", elsewhere=bool(session.server)) as progress:
            annotate(session.deps, session.actor(), objective, progress, hand_over)
    finally:
        if not into.stat().st_size:
            into.unlink()


def path_beside(objective: Path, file: Path) -> str:
    """The path of ``file`` as an objective at ``objective`` must name it; both are relative to where the command was started, or whole."""
    return Path(os.path.relpath(file, objective.parent)).as_posix()


list_verb(
    app,
    list_snapshots,
    {
        "snapshot": "digest",
        "objective": "manifest.objective",
        "rows": "manifest.size",
        "removed": "manifest.removed",
        "made from": "manifest.parent",
    },
    "List snapshots, newest first.",
)


@app.command("show")
def _show(
    snapshot: SnapshotArgument,
    set_aside: Annotated[bool, typer.Option("--set-aside", help="List every row set aside: file, line and reason.")] = False,
) -> None:
    """Show a snapshot: counts, splits, reasons why rows were set aside, digests."""
    found = open_session().ask(snapshots.show_snapshot, snapshot=snapshot, set_aside=set_aside)
    answer(found)
    show_snapshot(found)


@app.command("diff")
def _diff(
    snapshot: SnapshotArgument,
    other: Annotated[str, typer.Argument(help="Snapshot to compare with, named likewise.", metavar="OTHER")],
) -> None:
    """Show rows added, removed and relabelled from SNAPSHOT to OTHER, by file and line, without texts."""
    found = open_session().ask(diff_snapshots, snapshot=snapshot, other=other)
    answer(found)
    # Counts, then rows by file and line.
    out.print(f"{short(found.one)} → {short(found.other)}: " + ", ".join(f"{n:,} {what}" for what, n in found.counts.items()))
    entries = [(what, row) for what in ("added", "removed", "relabelled") for row in getattr(found, what)]
    columns: Columns = {
        "what": lambda entry: entry[0],
        "file": lambda entry: entry[1].file,
        "line": lambda entry: str(entry[1].line),
        "split": lambda entry: entry[1].split,
        "label": lambda entry: f"{entry[1].before} → {entry[1].after}" if entry[1].before else "",
    }
    if entries:
        print_table(columns, entries)
    for code, count in found.reasons.items():
        out.print(f"set aside as {code}: {count:+,}")


@app.command("prove")
def _prove(
    snapshot: SnapshotArgument,
    text: Annotated[str, typer.Option(help="Text of the row.")],
    label: Annotated[str, typer.Option(help="Its label or answer.")],
) -> None:
    """Prove that a row is or is not in a snapshot. JSON proof on stdout, verdict on stderr."""
    from tailorbird.crypto.merkle import verify_membership

    found = open_session().ask(prove_row, snapshot=snapshot, text=text, target=label)
    if not verify_membership(found.proof, found.head):
        raise InvalidInput("the proof does not hold", "run tailorbird audit verify, and restore a backup")
    print_json(found)
    where = "is in" if found.proof.present else "is not in"
    say(f"the row {where} snapshot {short(found.snapshot)}: checked against the root over {found.head.size:,} rows")


@app.command("fix")
def _fix(
    snapshot: SnapshotArgument,
    decisions: Annotated[Path | None, typer.Option(help="JSONL file of decisions, one {row, action, label} per line.")] = None,
) -> None:
    """List likely label errors, or file decisions about them: keep, relabel or drop. Decisions make a new snapshot, and are recorded."""
    session = open_session()
    if decisions is None:
        found = session.ask(snapshots.suspects, snapshot=snapshot)
        answer(found)
        columns: Columns = {
            "row": lambda one: one.row,
            "file": "file",
            "line": lambda one: str(one.line),
            "label": "given",
            "likelier": "suggested",
            "by": lambda one: f"{one.score:.2f}",
            "text": "text",
        }
        print_table(columns, found.suspects)
        say(found.skipped or f"{found.total} in all; decide in the console (/console/data), or by --decisions FILE")
        return
    try:
        fixes = tuple(Fix.model_validate_json(line) for line in decisions.read_bytes().splitlines() if line.strip())
    except OSError as error:
        raise NotFound(f"{decisions}: cannot be read: {error.strerror}", "give a JSONL file of decisions") from error
    done = session.ask(snapshots.fix, snapshot=snapshot, fixes=fixes)
    show(done, f"kept {done.kept}, relabelled {done.relabelled}, dropped {done.dropped}: snapshot {short(done.digest)}")
    say("the next adapt of this objective uses these decisions")


@app.command("erase")
def _erase(
    subject: Annotated[str | None, typer.Option("--subject", help="Data subject, as in the subject column. [default: asked for]")] = None,
    certificate: Annotated[Path | None, typer.Option(help="File for the signed certificate (JSON).")] = None,
) -> None:
    """Erase a data subject: new snapshots without their rows, purged artifacts, remaining obligations, a signed certificate.

    Interrupted, the same command resumes. Needs the role admin.
    """
    demand_ending(certificate, ".json")
    session = open_session()
    subject = _asked_subject() if subject is None else subject
    say("looking for this person in all snapshots; this takes seconds a million rows")
    found = session.ask_as("admin", erase.erase, subject=subject)
    if found.erasure.state is not ErasureState.DONE:
        digest = digest_of(found.certificate)
        signature = session.sign(PURPOSE, digest, "admin")
        signed = session.ask_as("admin", erase.certify, erasure=found.erasure.id, certificate=digest, signature=signature)
        found = erase.Certified(erasure=signed, certificate=found.certificate)
    if certificate is not None:
        certificate.write_text(found.model_dump_json(indent=2) + "\n", encoding="utf-8")
        say(f"wrote {certificate}")
    answer(found)
    show_certificate(found.erasure, found.certificate)


def _asked_subject() -> str:
    """The name, from the terminal or a pipe: it stands in no list of processes then. Raises InvalidInput."""
    err.print("Subject: ", end="")
    subject = sys.stdin.readline().strip()
    if not subject:
        raise InvalidInput("no subject is named", "give the name as it stands in the column of subjects")
    return subject


@app.command("erasures")
def _erasures(
    erasure: Annotated[str | None, typer.Argument(help="Show the certificate of this erasure.", metavar="[ERASURE]")] = None,
) -> None:
    """List erasures, or show one certificate."""
    session = open_session()
    if erasure is not None:
        found = session.ask(erase.show_certificate, erasure=erasure)
        answer(found)
        show_certificate(found.erasure, found.certificate)
        return
    listed = session.ask(list_erasures).erasures
    show(listed, {"erasure": "id", "state": "state", "asked by": "by", "at": "at"})


apps = {"data": app}
