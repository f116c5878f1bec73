"""What every verb begins with: where it is done, and who acts."""

from __future__ import annotations

import atexit
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from rich.console import Console

from tailorbird import auth, wiring
from tailorbird.cli.invocation import SERVER, SERVER_CA
from tailorbird.crypto.canonical_json import plain_json
from tailorbird.domain.errors import InvalidInput, NotFound
from tailorbird.domain.identity import Signature
from tailorbird.domain.value import Digest, Value
from tailorbird.settings import Settings, find_workspace, load_settings
from tailorbird.usecases import Actor, Dependencies
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.operations import Operation, perform

if TYPE_CHECKING:
    from tailorbird.cli.remote import RemoteControl

Q = TypeVar("Q", bound=Value)
A = TypeVar("A", bound=Value)

Workspace = Annotated[Path | None, typer.Option("--workspace", "-w", help="The workspace folder (default: .tailorbird here or above).")]
As = Annotated[str | None, typer.Option("--as", help="Act as this identity ([tenant/]name); its key proves it.")]
Key = Annotated[Path | None, typer.Option("--key", help="Key file of that identity (default: the workspace's).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

out = Console(soft_wrap=False)
err = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class CommandSession:
    """One call of the command line."""

    workspace: Path | None
    who: str | None = None
    key: Path | None = None

    @property
    def server(self) -> str:
        """The server that is asked; empty when this machine is."""
        return os.environ.get(SERVER, "")

    @cached_property
    def settings(self) -> Settings:
        """The workspace's settings. Raises NotFound when there is no workspace."""
        return load_settings(find_workspace(self.workspace))

    @cached_property
    def deps(self) -> Dependencies:
        """The opened ports of this machine's workspace. Raises InvalidInput with ``--server``: the verb works on this machine alone."""
        if self.server:
            raise InvalidInput("this is done on the machine of the workspace", "run it there, without --server", code="local_only")
        return wiring.open_dependencies(self.settings)

    @property
    def tenant(self) -> str:
        """The tenant acted in: of ``--as tenant/name``, or the workspace's."""
        return self.who.partition("/")[0] if self.who and "/" in self.who else self.settings.tenant

    def name(self, default: str | None = None) -> str:
        """Who acts: ``--as``, else ``default``, else the workspace's identity."""
        return self.who.rpartition("/")[2] if self.who else (default or self.settings.identity)

    def key_file(self, default: str | None = None) -> Path:
        """The key file of who acts."""
        return self.key or self.settings.keys / self.tenant / f"{self.name(default)}.key"

    def actor(self, default: str | None = None) -> Actor:
        """Who acts here, proven by their key. Raises NotFound, Forbidden."""
        return act_as(self.deps, self.tenant, self.name(default), self.key_file(default))

    def ask(self, operation: Operation[Q, A], request: Q, default: str | None = None) -> A:
        """The answer to ``request``, from here or from the server. ``default`` acts unless ``--as`` names somebody."""
        if self.server:
            return self.remote(default).ask(operation, request)
        return perform(self.deps, self.actor(default), operation, request)

    def sign(self, purpose: str, digest: Digest, default: str | None = None) -> Signature:
        """The signature of who acts, made with the key on this machine."""
        key = auth.load_key(self.key_file(default))
        return auth.sign(key, self.name(default), purpose, digest, wiring.SystemClock().now())

    def remote(self, default: str | None = None) -> RemoteControl:
        """The server, with who acts logged in."""
        from tailorbird.cli.remote import RemoteControl

        known = self._remotes.get(self.name(default))
        if known is None:
            known = RemoteControl(self.server, self.tenant, self.name(default), self.key_file(default), os.environ.get(SERVER_CA) or None)
            self._remotes[self.name(default)] = known
            atexit.register(known.close)
        return known

    @cached_property
    def _remotes(self) -> dict[str, RemoteControl]:
        return {}


def open_session(workspace: Path | None, who: str | None = None, key: Path | None = None) -> CommandSession:
    """The session for the options given. Raises NotFound when it needs a workspace and there is none."""
    session = CommandSession(workspace, who, key)
    if not (session.server and who and "/" in who and key):
        _need_workspace(session)
    return session


def _need_workspace(session: CommandSession) -> None:
    try:
        find_workspace(session.workspace)
    except NotFound as error:
        if not session.server:
            raise
        raise NotFound(error.message, "say who acts: --as tenant/name --key FILE", code=error.error_code) from None


def print_json(value: Value | Sequence[Value] | dict[str, Any]) -> None:
    """One JSON document on stdout."""
    if isinstance(value, Value):
        plain: Any = plain_json(value)
    elif isinstance(value, dict):
        plain = value
    else:
        plain = [plain_json(item) for item in value]
    sys.stdout.write(json.dumps(plain, indent=2, ensure_ascii=False) + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout."""
    from tailorbird.reporting import add_row, plain_table

    table = plain_table(columns)
    for row in rows:
        add_row(table, row)
    out.print(table)


def say(text: str) -> None:
    """A message on stderr."""
    err.print(text, markup=False)
