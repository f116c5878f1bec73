"""What every verb begins with: the workspace, its settings, the opened parts, and who acts.

In: the options all verbs share. Out: ``Session``; JSON or tables on stdout. Must not know: any verb.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from tailorbird import wiring
from tailorbird.domain.value import Value
from tailorbird.foundations.canonical import plain_json
from tailorbird.lifecycle import Actor, Parts
from tailorbird.lifecycle.people import act_as
from tailorbird.settings import Settings, find_workspace, load_settings

Workspace = Annotated[Path | None, typer.Option("--workspace", "-w", help="The workspace folder (default: .tailorbird here or above).")]
As = Annotated[str | None, typer.Option("--as", help="Act as this identity ([tenant/]name); its key proves it.")]
Key = Annotated[Path | None, typer.Option("--key", help="Key file of that identity (default: the workspace's).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

out = Console(soft_wrap=False)
err = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Session:
    """One call of the command line."""

    settings: Settings
    who: str | None = None
    key: Path | None = None

    @cached_property
    def parts(self) -> Parts:
        """The opened parts."""
        return wiring.open_parts(self.settings)

    @property
    def tenant(self) -> str:
        """The tenant acted in: of ``--as tenant/name``, or the workspace's."""
        return self.who.partition("/")[0] if self.who and "/" in self.who else self.settings.tenant

    def actor(self, default: str | None = None) -> Actor:
        """Who acts: ``--as``, else ``default``, else the workspace's identity; proven by its key."""
        name = self.who.rpartition("/")[2] if self.who else (default or self.settings.identity)
        return act_as(self.parts, self.tenant, name, self.key)


def open_session(workspace: Path | None, who: str | None = None, key: Path | None = None) -> Session:
    """The session for the options given. Raises NotFound when there is no workspace."""
    return Session(load_settings(find_workspace(workspace)), who, key)


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
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*row)
    out.print(table)


def say(text: str) -> None:
    """A message on stderr."""
    err.print(text, markup=False)
