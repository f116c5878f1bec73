"""``tailorbird encryption``: encryption at rest, with a key for each tenant."""

from __future__ import annotations

from typing import Annotated

import typer

from tailorbird import auth, wiring
from tailorbird.cli.groups import command_group
from tailorbird.cli.progress import ProgressDisplay
from tailorbird.cli.session import CommandSession, err, open_session, print_json, print_table, say
from tailorbird.domain.errors import Conflict
from tailorbird.settings import read_settings, save_settings
from tailorbird.usecases.maintenance.encryption import encrypt_stored, encryption_status, rewrap_keys

encryption = command_group()


@encryption.callback()
def _encryption() -> None:
    """Encrypt artifacts, uploads and kept words at rest, with a key for each tenant. Stop servers and workers before."""


@encryption.command("status")
def _status() -> None:
    """Show which tenants have a data key, and what lies in the clear."""
    session = open_session()
    found = encryption_status(session.deps, session.actor("admin"))
    if session.as_json:
        print_json(found)
        return
    typer.echo(f"new artifacts are {'encrypted' if found.encrypts else 'stored in the clear'}; {found.public:,} of public models never are")
    rows = [(one.tenant, "yes" if one.has_key else "no", f"{one.in_the_clear:,}") for one in found.tenants]
    print_table(("tenant", "data key", "artifacts in the clear"), rows)
    if not found.decrypts_in_memory:
        say("what is read is decrypted to cache/clear of the workspace: there is no file system in memory (/dev/shm) of 1 GiB or more")
    if found.unnamed:
        say(f"{found.unnamed:,} artifacts in the clear are named by no tenant's record: earlier work left them")


@encryption.command("enable")
def _enable(
    key: Annotated[
        str, typer.Option("--with", help="Where the workspace key is: file (beside the workspace), file:PATH, env:NAME, or vault:URL.")
    ] = "file",
) -> None:
    """Encrypt what is stored, and from now on what is new. Makes the key file where KEY is one and it is not there."""
    session = open_session()
    present = session.settings.encryption
    if present and present != key:
        raise Conflict(
            f"this workspace encrypts already, with {present}", "rotate its key: tailorbird encryption rotate", code="encryption_on"
        )
    if not present:
        session = _switched_on(session, key)
    with ProgressDisplay(err) as progress:
        done = encrypt_stored(session.deps, session.actor("admin"), progress)
    if session.as_json:
        print_json(done)
    else:
        typer.echo(f"encrypted {done.artifacts:,} artifacts ({done.bytes:,} bytes), and the kept words of {done.words:,} requests")


def _switched_on(session: CommandSession, key: str) -> CommandSession:
    """The session with the setting. It is written once the key has wrapped and unwrapped something. Raises Conflict where it does not."""
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
    return open_session()


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
    if session.as_json:
        print_json(done)
        return
    typer.echo(f"wrapped the data keys of {len(done.tenants)} tenants by the newest workspace key")
    if place is not None:
        say(f"former keys stay in {place}, after the first line, for backups that were made before; delete them when those are gone")


apps = {"encryption": encryption}
