"""``tailorbird backup`` and ``tailorbird restore``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import typer

from tailorbird import settings, wiring
from tailorbird.auth import check_public_key
from tailorbird.cli.groups import command
from tailorbird.cli.invocation import shared_options
from tailorbird.cli.progress import ProgressDisplay
from tailorbird.cli.session import err, new_session, open_session, print_json, say
from tailorbird.domain.errors import Conflict
from tailorbird.system.files import OWNER_FOLDER, close_to_others, is_open_to_others, private_folder
from tailorbird.usecases.maintenance import backup as copies

backup = command()
restore = command()


@backup.command()
def _backup(
    target: Annotated[Path, typer.Argument(help="Folder for backups, on another disk; it may hold earlier backups.")],
    with_keys: Annotated[
        bool, typer.Option("--with-keys", help="Include private keys: readers of the backup can then act as every identity.")
    ] = False,
    prune: Annotated[
        bool,
        typer.Option("--prune", help="Also delete artifacts in TARGET that no backup there names any more."),
    ] = False,
) -> None:
    """Back up database, settings and artifacts while servers and workers run. Artifacts already in TARGET are not copied again."""
    session = open_session()
    for folder in (target / "artifacts", target / "cache"):
        if folder.is_dir() and is_open_to_others(folder):  # made by an earlier version
            close_to_others(folder)
    store = wiring.open_artifacts(str(target / "artifacts"), target / "cache")
    wanted = copies.BackupTarget(target, store, settings.portable_settings(session.settings.workspace), with_keys, prune)
    with ProgressDisplay(err) as progress:
        made = copies.back_up(session.deps, session.actor("admin"), wanted, progress)
    if session.as_json:
        print_json(made)
    else:
        typer.echo(f"backed up to {made.folder}: {made.rows} rows, {made.artifacts} artifacts ({made.new} new)")
        if prune and not made.unpruned:
            typer.echo(f"{made.pruned} artifacts that no backup there names any more are deleted")
        typer.echo(f"its manifest is {made.digest}, signed by the log's key {made.log_key}; keep this line elsewhere")
    if with_keys:
        say("private keys are in this backup: whoever can read it can act as every identity, so keep it like a key")
    else:
        say("private keys are not in this backup: copy the folder keys/ of the workspace to a safe place, or give --with-keys")
    if made.unpruned:
        hint = "the backup is as good as any: look at that folder, and prune with the next one"
        raise Conflict(f"nothing was pruned: {made.unpruned}", hint, code="backup_unpruned")


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
            store = wiring.open_artifacts(str(copies.artifacts_of(found)), folder / "cache")
            with ProgressDisplay(err) as progress:
                restored = copies.restore(deps, found, store, progress)
        finally:
            deps.ledger.close()
    if session.as_json:
        print_json(restored)
    else:
        made = f"{restored.made_at:%Y-%m-%d %H:%M:%S}"
        typer.echo(f"restored the backup of {made} UTC to {workspace}: {restored.rows} rows, {restored.artifacts} artifacts")
        typer.echo(f"every digest was checked, and the log verifies up to entry {restored.log_size}")
    if not (digest or trust):
        signer = f"it is signed by the log's key {found.manifest.log_key}" if found.signed else "it is not signed"
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


apps = {"backup": backup, "restore": restore}
