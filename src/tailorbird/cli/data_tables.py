"""How data are shown in a terminal."""

from __future__ import annotations

from collections import Counter

from tailorbird.cli.session import out, print_table, say
from tailorbird.crypto.canonical_json import short
from tailorbird.domain.erasure import Certificate, Erasure, Treatment
from tailorbird.domain.inspection import Inspection
from tailorbird.usecases.snapshots.label_errors import Suspect
from tailorbird.usecases.snapshots.snapshot_queries import SnapshotDifference, SnapshotView

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
