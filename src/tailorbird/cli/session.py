"""Session of one command: workspace or server, and the acting identity."""

from __future__ import annotations

import atexit
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from rich.console import Console

from tailorbird import auth, wiring
from tailorbird.cli.invocation import SharedOptions, shared_options
from tailorbird.crypto.canonical_json import plain_json
from tailorbird.domain.errors import InvalidInput, NotFound
from tailorbird.domain.identity import Signature
from tailorbird.domain.value import Digest, Value
from tailorbird.settings import Settings, find_workspace, load_settings
from tailorbird.system.clock import SystemClock
from tailorbird.usecases import Actor, Dependencies
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.registry import UseCase, perform

if TYPE_CHECKING:
    from tailorbird.cli.remote import RemoteControl

P = ParamSpec("P")
A = TypeVar("A", bound=Value)

out = Console(soft_wrap=False)
err = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class CommandSession(SharedOptions):
    """One call of the command line: its shared options, and what they lead to."""

    @cached_property
    def settings(self) -> Settings:
        """The workspace's settings. Raises NotFound when there is no workspace."""
        return load_settings(find_workspace(self.workspace))

    @cached_property
    def deps(self) -> Dependencies:
        """The opened ports of this machine's workspace. Raises InvalidInput with ``--server``: the verb works on this machine alone."""
        self.refuse_server()
        return wiring.open_dependencies(self.settings)

    def refuse_server(self) -> None:
        """Raises InvalidInput with ``--server``."""
        if self.server:
            raise InvalidInput("this is done on the machine of the workspace", "run it there, without --server", code="local_only")

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

    def ask(self, use_case: UseCase[P, A], /, *args: P.args, **kwargs: P.kwargs) -> A:
        """The answer of ``use_case``, from here or from the server."""
        return self.ask_as(None, use_case, *args, **kwargs)

    def ask_as(self, default: str | None, use_case: UseCase[P, A], /, *args: P.args, **kwargs: P.kwargs) -> A:
        """The same, asked by the identity ``default`` unless ``--as`` names somebody."""
        if self.server:
            return self.remote(default).ask(use_case, *args, **kwargs)
        return perform(self.deps, self.actor(default), use_case, *args, **kwargs)

    def sign(self, purpose: str, digest: Digest, default: str | None = None) -> Signature:
        """The signature of who acts, made with the key on this machine."""
        key = auth.load_key(self.key_file(default))
        return auth.sign(key, self.name(default), purpose, digest, SystemClock().now())

    def remote(self, default: str | None = None) -> RemoteControl:
        """The server, with who acts logged in."""
        from tailorbird.cli.remote import RemoteControl

        known = self._remotes.get(self.name(default))
        if known is None:
            known = RemoteControl(self.server, self.tenant, self.name(default), self.key_file(default), self.ca or None)
            self._remotes[self.name(default)] = known
            atexit.register(known.close)
        return known

    @cached_property
    def _remotes(self) -> dict[str, RemoteControl]:
        return {}


def open_session() -> CommandSession:
    """The session of this call's shared options. Raises NotFound when it needs a workspace and there is none."""
    session = new_session()
    if not (session.server and session.who and "/" in session.who and session.key):
        _need_workspace(session)
    return session


def new_session() -> CommandSession:
    """The session of a verb that makes its workspace."""
    return CommandSession(**vars(shared_options()))


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
