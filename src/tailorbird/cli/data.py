"""``tailorbird data``: what the data are, how they were cleaned, what people decided about them, and who was forgotten."""

from __future__ import annotations

import csv
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml

from tailorbird.cli.adapt import ObjectivePath, narrated
from tailorbird.cli.groups import command_group
from tailorbird.cli.output_file import demand_ending
from tailorbird.cli.progress import ProgressDisplay
from tailorbird.cli.session import CommandSession, err, json_text, open_session, out, print_json, print_table, say
from tailorbird.crypto.canonical_json import digest_of, short
from tailorbird.domain.curation import FixAction
from tailorbird.domain.erasure import Certificate, Erasure, ErasureState, Treatment
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.inspection import Inspection
from tailorbird.sdk.remote_runs import follow, submit_file
from tailorbird.system.files import flush
from tailorbird.usecases.erasure import erase
from tailorbird.usecases.erasure.erase import PURPOSE, list_erasures
from tailorbird.usecases.snapshots import label_errors, report, snapshot_queries
from tailorbird.usecases.snapshots.label_errors import Fix, Fixed, Suspect
from tailorbird.usecases.snapshots.report import inspect_uploaded
from tailorbird.usecases.snapshots.snapshot_queries import SnapshotDifference, SnapshotView, diff_snapshots, list_snapshots, prove_row

if TYPE_CHECKING:
    from tailorbird.usecases.annotation import Annotations


#: What of a request goes with a person, in words.
_WORDS = {
    "kept": "kept words",
    "feedback": "labels given",
    "review": "places in the queue for people",
    "trace": "traces of whom it was for",
}


def show_inspection(found: Inspection) -> None:
    """Format, columns, guesses, and the source to write."""
    facts = [found.kind, found.encoding, f"separated by {found.separator!r}" if found.separator else None, f"{found.rows:,} rows"]
    out.print(f"{found.name}: {', '.join(fact for fact in facts if fact)}", markup=False)
    guessed = {guess.column: guess for guess in found.guesses}
    rows = []
    for column in found.columns:
        guess = guessed.get(column.name)
        distinct = f"{column.distinct:,}{'+' if column.distinct >= 1000 else ''}"
        lengths = f"{column.mean_length:g} / {column.longest:,}"
        rows.append((column.name, column.kind, f"{column.filled:,}", distinct, lengths, f"{guess.role}? {guess.why}" if guess else ""))
    print_table(("column", "holds", "filled", "distinct", "length mean / max", "seems to be"), rows)
    for code, count in found.unusable.items():
        say(f"{count:,} records cannot be read: {code}")
    for note in found.notes:
        say(f"note: {note}")
    out.print(f"\n{found.proposal}", markup=False, end="")


def show_snapshot(found: SnapshotView) -> None:
    """Counts, splits, and where to read on."""
    manifest = found.manifest
    out.print(f"snapshot {short(found.digest)} of {manifest.tenant}/{manifest.objective}", markup=False)
    print_table(
        ("read", "duplicates", "set aside", "removed", "kept", "train", "dev", "test"),
        [
            tuple(
                f"{number:,}"
                for number in (
                    manifest.read,
                    manifest.duplicates,
                    manifest.quarantined - manifest.removed,
                    manifest.removed,
                    manifest.size,
                    manifest.counts.train,
                    manifest.counts.dev,
                    manifest.counts.test,
                )
            )
        ],
    )
    for step in found.report.flow if found.report else ():
        gone = ", ".join(f"{count:,} {code}" for code, count in step.reasons.items())
        out.print(f"  {step.name}: {step.before:,} → {step.after:,}" + (f" ({gone})" if gone else ""), markup=False)
    if found.set_aside:
        print_table(("file", "line", "code", "why"), [(each.file, str(each.line), each.code, each.reason) for each in found.set_aside])
    elif manifest.quarantined:
        out.print(f"each row set aside, with its reason: tailorbird data show {short(found.digest)} --set-aside", markup=False)
    for kind in found.report.personal if found.report else ():
        out.print(f"  {kind.kind.value}: {kind.occurrences:,} in {kind.rows:,} rows, {kind.action.value}", markup=False)
    if manifest.root:
        out.print(f"root {manifest.root}", markup=False)
    if manifest.expires:
        out.print(f"the first retention date is {manifest.expires.isoformat()}", markup=False)
    if found.followed_by:
        say(f"this snapshot was followed by {short(found.followed_by)}: a person was erased, or rows were fixed")


def show_difference(found: SnapshotDifference) -> None:
    """Counts, then rows by file and line."""
    out.print(f"{short(found.one)} → {short(found.other)}: " + ", ".join(f"{n:,} {what}" for what, n in found.counts.items()), markup=False)
    named = [("added", found.added), ("removed", found.removed), ("relabelled", found.relabelled)]
    rows = [
        (what, row.file, str(row.line), row.split.value, f"{row.before} → {row.after}" if row.before else "")
        for what, some in named
        for row in some
    ]
    if rows:
        print_table(("what", "file", "line", "split", "label"), rows)
    for code, count in found.reasons.items():
        out.print(f"set aside as {code}: {count:+,}", markup=False)


def show_suspect(suspect: Suspect, place: int, total: int) -> None:
    """One likely label error, on stderr: it is part of a conversation, not of the output."""
    say(f"\n[{place}/{total}] {suspect.file}:{suspect.line}")
    say(f"  {suspect.text}")
    say(f"  label {suspect.given}; likelier {suspect.suggested} (by {suspect.score:.2f})")


def show_certificate(erasure: Erasure, certificate: Certificate) -> None:
    """What was found, what was done, what is left to do."""
    reach = certificate.reach
    signed = f"signed by {erasure.signature.identity}" if erasure.signature else "not signed yet: run the same command again"
    out.print(f"erasure {erasure.id}: {erasure.state.value}, certificate {short(erasure.certificate or '')}, {signed}", markup=False)
    for one in certificate.snapshots:
        gone = f"{len(one.rows):,} rows gone, each proved in the old root and absent from the new"
        out.print(f"  {one.objective}: snapshot {short(one.old)} → {short(one.new)}, {gone}", markup=False)
        if one.documents is not None:
            proved = len(one.documents.proofs)
            out.print(f"    and {one.documents.count:,} documents, {proved:,} of them proved likewise", markup=False)
    counts = {
        "runs": len(reach.runs),
        "candidates": len(reach.candidates),
        "adapters": len(reach.adapters),
        "prompts": len(reach.prompts),
        "indexes": len(reach.indexes),
        "passages": reach.passages,
        "releases": len(reach.releases),
        "aliases": len(reach.aliases),
        "rollouts": len(reach.rollouts),
        "answered requests": reach.requests,
        "feedback": reach.feedback,
    }
    out.print("reached: " + ", ".join(f"{what} {count:,}" for what, count in counts.items()), markup=False)
    destroyed = f"{len(certificate.purged):,} artifacts, {len(certificate.forgotten):,} prompts"
    out.print(f"destroyed, with the person's words: {destroyed}", markup=False)
    if certificate.uploads:
        out.print(f"  {len(certificate.uploads):,} of them uploaded files", markup=False)
    _show_gaps(certificate)
    for each in certificate.answers:
        told = f"{len(each.items)} items and {each.reasons} reasons"
        out.print(f"taken from label review {short(each.sheet)}: {told}; its digest, as releases sign it, stays", markup=False)
    went = Counter(what for each in certificate.words for what in each.what)
    if went:
        told = ", ".join(f"{_WORDS[what]} {count:,}" for what, count in sorted(went.items()))
        out.print(f"taken from {len(certificate.words):,} requests: {told}", markup=False)
    if certificate.earlier:
        out.print(f"this certificate follows {short(certificate.earlier)}, which stays valid", markup=False)
    rows = [(f"{duty.due.isoformat()}", duty.kind.value.replace("_", " "), duty.what, duty.why) for duty in certificate.duties]
    print_table(("by", "to do", "what", "why"), rows)
    _show_places(certificate)


def _show_gaps(certificate: Certificate) -> None:
    """What was not searched, and by what nothing was."""
    if certificate.unread:
        named = ", ".join(short(digest) for digest in certificate.unread)
        out.print(f"not searched, neither text nor table: uploaded files {named}", markup=False)
    for limit in certificate.not_looked_for:
        out.print(f"NOT looked for: {limit.what}, in {', '.join(limit.places)}: {limit.why}", markup=False)


def _show_places(certificate: Certificate) -> None:
    """What was done about each place."""
    limited = {name for limit in certificate.not_looked_for for name in limit.places}
    for treatment in Treatment:
        places = [place.name for place in certificate.places if place.treatment is treatment]
        if places:
            told = (f"{name} (not for all)" if name in limited else name for name in places)
            out.print(f"{treatment.value.replace('_', ' ')}: {', '.join(told)}", markup=False)


app = command_group()
SnapshotArgument = Annotated[
    str, typer.Argument(help="Digest or its prefix, an objective's name, a run, or a release.", metavar="SNAPSHOT")
]


@app.callback()
def _data() -> None:
    """Inspect, curate, correct, compare and prove data; erase a data subject."""


@app.command("inspect")
def _inspect(
    name: Annotated[str, typer.Argument(help="File, folder or address.", metavar="FILE")],
) -> None:
    """Inspect a file: format, encoding, columns and their likely roles. Proposes the objective's source section; stores nothing."""
    session = open_session()
    found = _looked_at(name, session)
    if session.as_json:
        print_json(found)
        return
    show_inspection(found)
    say("look whether this is right, fill in whose data it is and on what terms, and put it into your objective")


def _looked_at(name: str, session: CommandSession) -> Inspection:
    from tailorbird import data

    if session.server and "://" not in name:
        return session.ask(inspect_uploaded, name=Path(name).name, file=session.remote().upload(Path(name)))
    with ProgressDisplay(err) as progress:
        return data.inspect_file(name, Path(), progress.tell)


@app.command("curate")
def _curate(objective: ObjectivePath) -> None:
    """Read, clean, split and freeze an objective's data as a snapshot. Interrupted runs resume; adapt continues the same run."""
    from tailorbird.usecases.runs.submit import curate

    session = open_session()
    with narrated(session, f"tailorbird data curate {objective}") as progress:
        if session.server:
            run = follow(session, submit_file(session, objective, "plan"), progress).run.id
            found = session.ask(snapshot_queries.show_snapshot, snapshot=run)
        else:
            found = curate(session.deps, session.actor(), objective, progress)
    if session.as_json:
        print_json(found)
        return
    show_snapshot(found)
    say(f"next: tailorbird data report {short(found.digest)} report.html; tailorbird plan {objective}")


@app.command("annotate")
def _annotate(
    objective: ObjectivePath,
    into: Annotated[Path, typer.Option(help="CSV file for the labelled texts; it must not exist.")],
) -> None:
    """Have the objective's teacher, a hosted model, label texts. Kept are those that it labels alike twice.

    Interrupted, the same command asks for the rest: what was paid for is kept.
    """
    from tailorbird.usecases.annotation import annotate

    session = open_session()
    session.refuse_server()
    demand_ending(into, ".csv")
    handed = list["Annotations"]()

    def hand_over(found: Annotations) -> None:
        write_rows(into, found.rows)
        handed.append(found)

    demand_free(into)
    with narrated(session, f"tailorbird data annotate {objective} --into {into}") as progress:
        annotate(session.deps, session.actor(), objective, progress, hand_over)
    _tell_annotated(handed[0], path_beside(objective, into))


def _tell_annotated(found: Annotations, path: str) -> None:
    """What became of the texts, and the source to add."""
    left = found.left_out
    say(f"{len(found.rows):,} texts are labelled; {found.disagreed:,} were labelled in two ways, {found.unlabelled:,} not at all;")
    say(f"not sent: {left.personal:,} with personal data, {left.repeated:,} that are items of dev or test; {left.blank:,} rows had no text")
    before = f", beside {found.kept:,} texts that were labelled and paid for before" if found.kept else ""
    say(f"it cost {found.use.money:.4f} {found.use.currency}{before}; to learn from them, add under `data`:")
    model = found.reported or found.use.model
    generated = {"endpoint": found.endpoint.name, "model": model, "at": found.at.isoformat(timespec="seconds")}
    source = {"origin": f"texts labelled by {model}", "license": "FILL IN: on what terms it may be used", "generated": generated}
    out.print(yaml.safe_dump([{"path": path, "split": "train", "source": source}], sort_keys=False), markup=False, end="")


def demand_free(into: Path) -> None:
    """Returns where a file can be made at ``into`` and none is there: nothing is paid for what could not be written. Raises InvalidInput
    (``file_exists``), OSError."""
    if into.exists() or into.is_symlink():
        raise InvalidInput(f"{into} is there already", "name another file, or move that one away", code="file_exists")
    partial = _partial(into)
    partial.touch()
    partial.unlink()


def write_rows(into: Path, rows: Sequence[tuple[str, str]]) -> None:
    """Writes labelled texts: all of them or none, and in place of no other file. Raises as ``demand_free``."""
    demand_free(into)
    partial = _partial(into)
    try:
        with partial.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *rows])
            flush(file)
        partial.replace(into)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _partial(into: Path) -> Path:
    return into.with_name(f".{into.name}.partial")


def path_beside(objective: Path, file: Path) -> str:
    """The path of ``file`` as an objective at ``objective`` must name it; both are relative to where the command was started, or whole."""
    return Path(os.path.relpath(file, objective.parent)).as_posix()


@app.command("list")
def _list() -> None:
    """List snapshots, newest first."""
    session = open_session()
    found = session.ask(list_snapshots).snapshots
    if session.as_json:
        print_json(found)
        return
    rows = [
        (short(one.digest), one.manifest.objective, f"{one.manifest.size:,}", f"{one.manifest.removed:,}", _parent(one.manifest.parent))
        for one in found
    ]
    print_table(("snapshot", "objective", "rows", "removed", "made from"), rows)


@app.command("show")
def _show(
    snapshot: SnapshotArgument,
    set_aside: Annotated[bool, typer.Option("--set-aside", help="List every row set aside: file, line and reason.")] = False,
) -> None:
    """Show a snapshot: counts, splits, reasons why rows were set aside, digests."""
    session = open_session()
    found = session.ask(snapshot_queries.show_snapshot, snapshot=snapshot, set_aside=set_aside)
    print_json(found) if session.as_json else show_snapshot(found)


@app.command("report")
def _report(
    snapshot: SnapshotArgument,
    file: Annotated[Path | None, typer.Argument(help="File to write: .html, or .json.", metavar="[FILE]")] = None,
    examples: Annotated[bool, typer.Option("--examples", help="Include texts of likely label errors; logged.")] = False,
) -> None:
    """Write a data report of a snapshot as one self-contained HTML file, as a JSON file, or as JSON on stdout."""
    demand_ending(file, ".html", ".json")
    session = open_session()
    if file is None and not session.as_json:
        raise InvalidInput("no output file given", "name a file: report.html; or ask for --json", code="file_missing")
    found = session.ask(report.report, snapshot=snapshot, examples=examples)
    if file is not None:
        file.write_text(found.html if file.suffix.lower() == ".html" else json_text(found.facts), encoding="utf-8")
        say(f"wrote {file}" + ("; it holds texts of rows: keep it as you keep the data" if examples else ""))
    if session.as_json:
        print_json(found.facts)


@app.command("diff")
def _diff(
    snapshot: SnapshotArgument,
    other: Annotated[str, typer.Argument(help="Snapshot to compare with, named likewise.", metavar="OTHER")],
) -> None:
    """Show rows added, removed and relabelled from SNAPSHOT to OTHER, by file and line, without texts."""
    session = open_session()
    found = session.ask(diff_snapshots, snapshot=snapshot, other=other)
    print_json(found) if session.as_json else show_difference(found)


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
        raise InvalidInput("the proof does not hold", "run tailorbird audit verify, and restore a backup", code="proof_broken")
    print_json(found)
    where = "is in" if found.proof.present else "is not in"
    say(f"the row {where} snapshot {short(found.snapshot)}: checked against the root over {found.head.size:,} rows")


@app.command("fix")
def _fix(
    snapshot: SnapshotArgument,
    decisions: Annotated[Path | None, typer.Option(help="JSONL file of decisions, one {row, action, label} per line.")] = None,
) -> None:
    """Review likely label errors: keep, relabel or drop. Creates a new snapshot; every decision is recorded."""
    session = open_session()
    fixes = _read_fixes(decisions) if decisions else _ask_person(session, snapshot)
    if not fixes:
        say("nothing was decided")
        if session.as_json:
            print_json(_unchanged(session, snapshot))
        return
    done = session.ask(label_errors.fix, snapshot=snapshot, fixes=tuple(fixes))
    if session.as_json:
        print_json(done)
        return
    out.print(f"kept {done.kept}, relabelled {done.relabelled}, dropped {done.dropped}: snapshot {short(done.digest)}", markup=False)
    say("the next adapt of this objective heeds these decisions")


def _unchanged(session: CommandSession, snapshot: str) -> Fixed:
    found = session.ask(snapshot_queries.show_snapshot, snapshot=snapshot)
    return Fixed(digest=found.digest, manifest=found.manifest, kept=0, relabelled=0, dropped=0)


def _read_fixes(path: Path) -> list[Fix]:
    try:
        return [Fix.model_validate_json(line) for line in path.read_bytes().splitlines() if line.strip()]
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}", "give a JSONL file of decisions", code="file_missing") from error


def _ask_person(session: CommandSession, snapshot: str) -> list[Fix]:
    found = session.ask(label_errors.suspects, snapshot=snapshot)
    if found.skipped:
        say(found.skipped)
    fixes: list[Fix] = []
    for place, suspect in enumerate(found.suspects, start=1):
        show_suspect(suspect, place, len(found.suspects))
        decided = _decision(suspect, found.labels)
        if decided == "q":
            break
        if isinstance(decided, Fix):
            fixes.append(decided)
    return fixes


def _decision(suspect: Suspect, labels: tuple[str, ...]) -> Fix | str:
    """What the person says about one row; ``s`` skips it, ``q`` ends."""
    while True:
        said = typer.prompt("[k]eep  [r]elabel as suggested  [o]ther label  [d]rop  [s]kip  [q]uit", err=True).strip().lower()[:1]
        if said in ("s", "q"):
            return str(said)
        if said == "k":
            return Fix(row=suspect.row, action=FixAction.KEEP)
        if said == "d":
            return Fix(row=suspect.row, action=FixAction.DROP)
        if said == "r":
            return Fix(row=suspect.row, action=FixAction.RELABEL, label=suspect.suggested)
        if said == "o" and (label := typer.prompt("label", err=True).strip()) in labels:
            return Fix(row=suspect.row, action=FixAction.RELABEL, label=label)
        say("say one of these letters" if said != "o" else f"no row bears that label; one of: {', '.join(labels[:40])}")


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
    print_json(found) if session.as_json else show_certificate(found.erasure, found.certificate)


def _asked_subject() -> str:
    """The name, from the terminal or a pipe: it stands in no list of processes then. Raises InvalidInput."""
    err.print("Subject: ", end="")
    subject = sys.stdin.readline().strip()
    if not subject:
        raise InvalidInput("no subject is named", "give the name as it stands in the column of subjects", code="subject_empty")
    return subject


@app.command("erasures")
def _erasures(
    erasure: Annotated[str | None, typer.Argument(help="Show the certificate of this erasure.", metavar="[ERASURE]")] = None,
) -> None:
    """List erasures, or show one certificate."""
    session = open_session()
    if erasure is not None:
        found = session.ask(erase.show_certificate, erasure=erasure)
        print_json(found) if session.as_json else show_certificate(found.erasure, found.certificate)
        return
    listed = session.ask(list_erasures).erasures
    if session.as_json:
        print_json(listed)
        return
    print_table(("erasure", "state", "asked by", "at"), [(e.id, e.state.value, e.by, f"{e.at:%Y-%m-%d %H:%M}") for e in listed])


def _parent(parent: str | None) -> str:
    return short(parent) if parent else ""


apps = {"data": app}
