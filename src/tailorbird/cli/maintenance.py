"""``tailorbird audit``, ``database``, ``encryption``, ``backup`` and ``restore``."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import httpx
import typer

from tailorbird import auth, settings, wiring
from tailorbird.auth import check_public_key
from tailorbird.cli.invocation import ExitStatus, command, command_group, shared_options
from tailorbird.cli.session import answer, err, new_session, open_session, out, print_json, print_table, say
from tailorbird.domain.errors import Conflict, InvalidInput, NotFound, Unavailable
from tailorbird.reporting.tables import Columns
from tailorbird.sdk.progress import ProgressDisplay
from tailorbird.settings import read_settings, save_settings
from tailorbird.system.files import OWNER_FOLDER, private_folder
from tailorbird.system.outward_access import outward_client
from tailorbird.usecases.maintenance import backup as copies
from tailorbird.usecases.maintenance.audit import (
    export_log,
    log_public_key,
    make_checkpoint,
    prove_consistency,
    prove_inclusion,
    read_log,
    rotate_log_key,
    settle_forks,
    verify_log,
)
from tailorbird.usecases.maintenance.encryption import demand_nothing_stored, encryption_status, make_data_keys, rewrap_keys

#: So many of the newest are compared.
_MOST = 500
_NOTE = re.compile(r"[^\n]+\n\d+\n[A-Za-z0-9+/]{43}=\n(?:[^\n]+\n)*\n(?:\u2014 [^\n]+\n)+")


def read_notes(place: str) -> tuple[str, ...]:
    """The newest notes at a file or URL: C2SP notes as they are, or a JSON object with a ``note`` on each line.

    Raises NotFound, Unavailable, InvalidInput where there are none.
    """
    text = _fetched(place) if place.startswith(("https://", "http://")) else _read(Path(place))
    found = []
    for line in text.splitlines():
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if isinstance(told, dict) and isinstance(told.get("note"), str):
            found.append(told["note"])
    notes = tuple(found) or tuple(_NOTE.findall(text))
    if not notes:
        raise InvalidInput(f"{place} holds no checkpoint", "name what the setting checkpoints or a witness wrote")
    return notes[-_MOST:]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise NotFound(f"the witness's file {path} cannot be read: {error.strerror}", "name another") from None


def _fetched(url: str) -> str:
    try:
        with outward_client(url, timeout=15.0, follow_redirects=False) as client:
            answer = client.get(url)
        answer.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unavailable(
            f"the witness cannot be asked: {type(error).__name__}", "check its address, and whether it is up", code="witness_unreachable"
        ) from None
    return answer.text


audit = command_group("Verify, sign, prove, read and export the tamper-evident log.")


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
        out.print(f"the log is intact: {report.size} events, {report.checkpoints} checkpoints, head {report.root[:16]}")
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
    answer(settled)
    for fork in settled.forks:
        out.print(f"settled: {fork.text}")


@audit.command("rotate-key")
def _rotate_key() -> None:
    """Replace the key that signs checkpoints and seals the log, by cross-signing; print the new verifier key."""
    session = open_session()
    changed = rotate_log_key(session.deps, session.actor("admin"))
    answer(changed)
    typer.echo(changed.verifier_key)


@audit.command("checkpoint")
def _checkpoint() -> None:
    """Sign the current log head and ship the checkpoint to the configured receivers; keep the printed note on another machine."""
    signed = open_session().ask_as("admin", make_checkpoint)
    answer(signed)
    typer.echo(signed.note, nl=False)


@audit.command("log")
def _log(
    last: Annotated[int, typer.Option(help="Number of newest entries.", min=1, max=1000)] = 30,
    about: Annotated[str, typer.Option(help="Only entries about this subject (digest, run or name).")] = "",
    before: Annotated[int | None, typer.Option(help="Only entries before this one.", metavar="ENTRY", min=0, show_default=False)] = None,
) -> None:
    """Show the tenant's newest log entries."""
    page = open_session().ask(read_log, limit=last, subject=about, before=before)
    found = page.entries[::-1]
    answer(found)
    columns: Columns = {
        "entry": lambda entry: str(entry.index),
        "time": lambda entry: f"{entry.event.at:%Y-%m-%d %H:%M:%S}",
        "who": "event.actor",
        "what": "event.kind",
        "subject": "event.subject",
    }
    print_table(columns, found)
    if about and not found:
        say(f"no entry is about {about}: name a subject whole, or six digits of a digest or more")
    for entry in found:
        if entry.event.kind == "access.denied":
            facts = entry.event.data
            asked = f" {facts['asked']}" if facts.get("asked") else ""
            out.print(f"entry {entry.index}, denied: {facts.get('action')}{asked} ({facts.get('code')})")
        if (said := page.remarks.get(str(entry.event.data.get("reason")))) is not None:
            out.print(f"entry {entry.index}, why: {said}")


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
    answer({"file": str(target), "entries": count, "log_key": key})
    say(f"{count} entries written to {target}; the log's key is {key}")


database = command_group(
    "Make the tables of the record's database; print the roles that gateway and worker log in with. On the machine of the workspace."
)


@database.command("migrate")
def _migrate() -> None:
    """Make the tables where there are none, and set what each role may do (PostgreSQL). Run as the owner of the tables."""
    session = open_session()
    session.deps.ledger.migrate()
    answer({"migrated": True})
    say("the database has the schema of this version")


@database.command("roles")
def _roles() -> None:
    """Print SQL that makes the roles of gateway and worker (PostgreSQL), for psql. It can be run again."""
    script = open_session().deps.ledger.role_script()
    if not script:
        raise Conflict(
            "a database in a file has no roles",
            "keep the record in PostgreSQL: set database in settings.yaml",
        )
    answer({"sql": script})
    typer.echo(script, nl=False)


encryption = command_group(
    "Encrypt artifacts, uploads and kept words at rest, with a key for each tenant. Stop servers and workers before."
)


@encryption.command("status")
def _status() -> None:
    """Show which tenants have a data key."""
    session = open_session()
    found = encryption_status(session.deps, session.actor("admin"))
    answer(found)
    typer.echo(f"new artifacts are {'encrypted' if found.encrypts else 'stored in the clear'}; public models never are")
    columns: Columns = {
        "tenant": "tenant",
        "data key": lambda one: "yes" if one.has_key else "no",
    }
    print_table(columns, found.tenants)
    if not found.decrypts_in_memory:
        say("what is read is decrypted to cache/clear of the workspace: there is no file system in memory (/dev/shm) of 1 GiB or more")


@encryption.command("enable")
def _enable(
    key: Annotated[
        str, typer.Option("--with", help="Where the workspace key is: file (beside the workspace), file:PATH, env:NAME, or vault:URL.")
    ] = "file",
) -> None:
    """Encrypt what is stored from now on; in a new workspace alone. Makes the key file where KEY is one and it is not there."""
    session = open_session()
    present = session.settings.encryption
    if present and present != key:
        raise Conflict(f"this workspace encrypts already, with {present}", "rotate its key: tailorbird encryption rotate")
    if not present:
        demand_nothing_stored(session.deps)
        wanted = session.settings.model_copy(update={"encryption": key})
        place, trial = wanted.key_file, bytes(range(32))
        if place is not None and not place.exists():
            auth.write_key_file(place)
            say(f"the key is in {place}: keep a copy elsewhere. Without it nothing that is encrypted can be read, by anybody")
        service = wiring.open_key_service(wanted)
        if service.unwrap(service.wrap(trial, "trial"), "trial") != trial:
            raise Conflict(f"{service.name} does not give back what it wrapped", "nothing was changed: check it", code="key_service_lies")
        session.close()
        save_settings(wanted.workspace, read_settings(wanted.workspace) | {"encryption": key})
        say(f"set encryption: {key} in {wanted.workspace / 'settings.yaml'}")
        session = open_session()
    done = make_data_keys(session.deps, session.actor("admin"))
    answer(done)
    typer.echo(f"{len(done.tenants)} tenants have a data key: what they store from now on is encrypted")


@encryption.command("rotate")
def _rotate() -> None:
    """Wrap the tenants' data keys by a new workspace key; data stay as they are.

    A key file gets a new key on its first line. Elsewhere, make the new version first: put it before the former in the variable, or rotate
    the key in Vault. Former keys are needed for backups made before.
    """
    session = open_session()
    place = session.settings.key_file
    if place is not None:
        auth.rotate_key_file(place)
    done = rewrap_keys(session.deps, session.actor("admin"))
    answer(done)
    typer.echo(f"wrapped the data keys of {len(done.tenants)} tenants by the newest workspace key")
    if place is not None:
        say(f"former keys stay in {place}, after the first line, for backups that were made before; delete them when those are gone")


backup = command()
restore = command()


@backup.command()
def _backup(
    target: Annotated[Path, typer.Argument(help="Folder for backups, on another disk; it may hold earlier backups.")],
    with_keys: Annotated[
        bool, typer.Option("--with-keys", help="Include private keys: readers of the backup can then act as every identity.")
    ] = False,
) -> None:
    """Back up database, settings and artifacts while servers and workers run. Artifacts of the backup before are linked."""
    session = open_session()
    kept = settings.portable_settings(session.settings.workspace)
    with ProgressDisplay(err) as progress:
        made = copies.back_up(session.deps, session.actor("admin"), target, kept, progress, with_keys=with_keys)
    if session.as_json:
        print_json(made)
    else:
        typer.echo(f"backed up to {made.folder}: {made.rows} rows, {made.artifacts} artifacts ({made.new} new)")
        typer.echo(f"its manifest is {made.digest}, signed by the log's key {made.log_key}; keep this line elsewhere")
    if with_keys:
        say("private keys are in this backup: whoever can read it can act as every identity, so keep it like a key")
    else:
        say("private keys are not in this backup: copy the folder keys/ of the workspace to a safe place, or give --with-keys")


@restore.command()
def _restore(
    source: Annotated[Path, typer.Argument(help="Backup folder (its newest backup is restored), or one backup in it.")],
    database: Annotated[str, typer.Option(help="URL of an empty database. [default: SQLite in the workspace]")] = "",
    artifacts: Annotated[str, typer.Option(help="URL or folder for artifacts. [default: in the workspace]")] = "",
    digest: Annotated[str | None, typer.Option(help="Expected digest of the manifest; any other backup is refused.")] = None,
    trust: Annotated[str, typer.Option(help="Public key of the log (base64, or a log.pub file) that must have signed the backup.")] = "",
) -> None:
    """Restore a backup into a new workspace; every file, artifact, row and the log are verified first."""
    session = new_session()
    shared_options().refuse("restore", "who", "key")
    workspace = session.workspace
    if workspace is None:
        raise typer.BadParameter("name the folder to make", param_hint="--workspace")
    found = copies.find_backup(source, digest, _public_key(trust))
    places = {"database": database, "artifacts": artifacts}
    with _new(workspace) as folder:
        (folder / "settings.yaml").touch(mode=0o600)
        (folder / "settings.yaml").write_bytes(found.settings)
        settings.save_settings(folder, settings.read_settings(folder) | {name: place for name, place in places.items() if place})
        # The environment may name the database of the workspace that was backed up.
        deps = wiring.open_dependencies(settings.load_settings(folder, {}))
        try:
            with ProgressDisplay(err) as progress:
                restored = copies.restore(deps, found, progress)
        finally:
            deps.ledger.close()
    if session.as_json:
        print_json(restored)
    else:
        made = f"{restored.made_at:%Y-%m-%d %H:%M:%S}"
        typer.echo(f"restored the backup of {made} UTC to {workspace}: {restored.rows} rows, {restored.artifacts} artifacts")
        typer.echo(f"every digest was checked, and the log verifies up to entry {restored.log_size}")
    if not (digest or trust):
        signer = f"it is signed by the log's key {found.manifest.log_key}"
        say(f"WARNING: nothing was given that shows whose backup this is: {signer}. Anybody can make one that verifies.")
        say("hint: compare that key with the one that tailorbird backup told, or restore again with --trust KEY or --digest DIGEST")
    say(f"not restored: settings {', '.join(settings.LEFT_OUT)}; set them when this workspace takes over")
    if not restored.with_keys:
        say("no private keys were in this backup: put the folder keys/ of the old workspace in place, log.key too")


def _public_key(given: str) -> str:
    """The key that was named, itself or by its file. Raises InvalidInput."""
    if not given:
        return ""
    key = Path(given).read_text(encoding="ascii", errors="replace").strip() if Path(given).is_file() else given
    check_public_key(key)
    return key


@contextmanager
def _new(workspace: Path) -> Iterator[Path]:
    """A folder that becomes ``workspace`` only if the block ends well. Raises Conflict when something is there.

    An empty folder may be a disk of its own, or a link to one: what is to lie in it is made in it, and no other folder takes its place.
    """
    is_there, name = workspace.is_dir(), f".{workspace.name}-{uuid4().hex}"
    if workspace.exists() and (not is_there or any(path.name != "lost+found" for path in workspace.iterdir())):
        raise Conflict(f"{workspace} exists already", "name a folder that does not exist: --workspace NEW", code="workspace_exists")
    unfinished = workspace / name if is_there else workspace.absolute().with_name(name)
    private_folder(unfinished)
    try:
        yield unfinished
        _move_up(unfinished, workspace) if is_there else unfinished.rename(workspace)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _move_up(unfinished: Path, workspace: Path) -> None:
    """The settings go last: without them nobody takes the folder for a workspace."""
    workspace.chmod(OWNER_FOLDER)
    for path in sorted(unfinished.iterdir(), key=lambda path: path.name == "settings.yaml"):
        path.rename(workspace / path.name)


apps = {"audit": audit, "database": database, "encryption": encryption, "backup": backup, "restore": restore}
