"""Session of one command: workspace or server, and the acting identity."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tailorbird.cli.console import FileConsole
from tailorbird.cli.invocation import shared_options
from tailorbird.crypto.canonical_json import plain_json
from tailorbird.domain.errors import NotFound
from tailorbird.domain.value import Value
from tailorbird.sdk.session import WorkspaceSession
from tailorbird.settings import find_workspace
from tailorbird.system.standard_streams import writes_all_letters
from tailorbird.text.terminal_text import shown_json

out = FileConsole()
err = FileConsole(stderr=True, highlight=False)


@dataclass(frozen=True)
class CommandSession(WorkspaceSession):
    """Session of one call of the command line: its shared options, and what they lead to."""

    as_json: bool = False

    def name(self, default: str | None = None) -> str:
        """Who acts. Tells on stderr, once, where the verb chose an identity by its name, for nobody said who acts."""
        if default and not self.who and default != vars(self).get("_told_as"):
            vars(self)["_told_as"] = default
            say(f"as {default}: no --as was given, and this verb is the {default}'s")
        return super().name(default)

    def colleague(self, name: str) -> str:
        """An identity of the tenant acted in, as ``--as`` names it: with the tenant where this call did so."""
        return f"{self.tenant}/{name}" if self.who and "/" in self.who else name


def open_session(*, names_tenants: bool = False) -> CommandSession:
    """The session of this call's shared options. Raises NotFound when it needs a workspace and there is none.

    ``names_tenants``: the call itself says in which tenants.
    """
    session = new_session()
    if not (session.server and session.who and (names_tenants or "/" in session.who) and session.key):
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
    sys.stdout.write(json_text(value, ascii_only=not writes_all_letters()))


def json_text(value: Value | Sequence[Value] | dict[str, Any], *, ascii_only: bool = False) -> str:
    """One JSON document, with a line break at its end."""
    if isinstance(value, Value):
        plain: Any = plain_json(value)
    elif isinstance(value, dict):
        plain = value
    else:
        plain = [plain_json(item) for item in value]
    return shown_json(json.dumps(plain, indent=2, ensure_ascii=ascii_only)) + "\n"


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout."""
    from tailorbird.reporting import add_row, plain_table

    table = plain_table(columns)
    for row in rows:
        add_row(table, row)
    out.print(table)


def show_remedies(remedies: tuple[str, ...]) -> None:
    """What could lead to a release, for somebody whose run ended without one."""
    if remedies:
        out.print("\nwhat could lead to a release:", markup=False)
    for line in remedies:
        out.print(f"  · {line}", markup=False)


def another_release(objective: str) -> str:
    """What leads to another release where one is retired or rejected for good."""
    return (
        f"back from here: change what you want or the data it rests on, then tailorbird adapt {objective}: any value changed in the "
        "objective (a target, `seed`, `goal`) or in a row of its data leads to another release; what was trained is reused where nothing "
        "that it learned from has changed"
    )


def say(text: str) -> None:
    """A message on stderr."""
    err.print(text, markup=False)
