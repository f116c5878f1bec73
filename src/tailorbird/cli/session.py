"""Session of one command, and how its answer is shown: JSON, a table, or text."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import TextType

from tailorbird.cli.invocation import Interrupted, shared_options
from tailorbird.crypto.canonical_json import plain_json
from tailorbird.domain.errors import InvalidInput, NotFound
from tailorbird.domain.value import Value
from tailorbird.reporting.tables import Columns, columns_table
from tailorbird.sdk.progress import ProgressDisplay
from tailorbird.sdk.session import WorkspaceSession
from tailorbird.settings import find_workspace
from tailorbird.system.process import writes_all_letters
from tailorbird.text.terminal_text import UNBROKEN, shown, shown_json
from tailorbird.usecases import Progress
from tailorbird.usecases.registry import UseCase


class FileConsole(Console):
    """A rich console; ``COLUMNS`` sets the width of tables wherever they go."""

    @property
    def size(self) -> ConsoleDimensions:
        """Width and height in characters."""
        size = super().size
        return size if self._breaks else ConsoleDimensions(UNBROKEN, size.height)

    @size.setter
    def size(self, new_size: tuple[int, int]) -> None:
        self._width, self._height = new_size

    def print(self, *objects: Any, soft_wrap: bool | None = None, markup: bool | None = False, **options: Any) -> None:
        """The same as rich's, without broken lines of text outside a terminal, and with control characters written out."""
        objects = tuple(shown(each) if isinstance(each, str) else each for each in objects)
        super().print(*objects, soft_wrap=not self.is_terminal if soft_wrap is None else soft_wrap, markup=markup, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The same as rich's; control characters are those of rich alone."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(shown(segment.text), segment.style)

    def rule(self, title: TextType = "", **options: Any) -> None:
        """A heading: with a line as wide as the terminal on one, plain elsewhere."""
        if self._breaks:
            super().rule(title, **options)
        else:
            self.print(title)

    @property
    def _breaks(self) -> bool:
        return self.is_terminal or self._environ.get("COLUMNS", "").isdigit()


def demand_ending(file: Path | None, *endings: str) -> None:
    """Returns where the name ends in one of ``endings``: asked before the work, so that nothing is computed for a file that would hold
    something else than its name says. Raises InvalidInput."""
    if file is not None and file.suffix.lower() not in endings:
        forms = " or ".join(endings)
        raise InvalidInput(f"{file}: this is written as {forms}", f"give the file a name that ends in {forms}")


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
        try:
            find_workspace(session.workspace)
        except NotFound as error:
            if not session.server:
                raise
            raise NotFound(error.message, "say who acts: --as tenant/name --key FILE", code=error.error_code) from None
    return session


def new_session() -> CommandSession:
    """The session of a verb that makes its workspace."""
    return CommandSession(**vars(shared_options()))


def print_json(value: Value | Sequence[Value] | dict[str, Any]) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json_text(value, ascii_only=not writes_all_letters()))


def answer(value: Value | Sequence[Value] | dict[str, Any]) -> None:
    """With --json: prints ``value``, and the command ends. Otherwise words follow."""
    if shared_options().as_json:
        print_json(value)
        raise typer.Exit


def show(value: Value | Sequence[Value] | dict[str, Any], shown: str | Columns) -> None:
    """The answer of a command: ``value`` with --json, else a text, or a table of its entries with these columns."""
    answer(value)
    if isinstance(shown, str):
        out.print(shown)
    else:
        print_table(shown, value)


def print_table(columns: Columns, entries: Iterable[Any]) -> None:
    """A table on stdout, a line an entry."""
    out.print(columns_table(columns, entries))


def list_verb(
    group: typer.Typer, use_case: UseCase[..., Any], columns: Columns, does: str, *, who: str | None = None, newest: str = ""
) -> None:
    """Declares the subcommand ``list``: what ``use_case`` lists, as a table with ``columns``, asked by ``who`` unless somebody is named.
    ``newest``: what is listed, where the newest are shown and older ones are counted."""

    def listed(**asked: object) -> None:
        page = open_session().ask_as(who, use_case, **asked)
        entries = next(value for _, value in page if isinstance(value, tuple))
        show(entries, columns)
        older = getattr(page, "total", 0) - len(entries)
        if older > 0:
            say(f"{older} older {newest}: --limit N")

    def listed_newest(limit: int = typer.Option(50, help=f"Number of newest {newest}.", min=1, max=1000)) -> None:
        listed(limit=limit)

    group.command("list", help=does)(listed_newest if newest else lambda: listed())


def json_text(value: Value | Sequence[Value] | dict[str, Any], *, ascii_only: bool = False) -> str:
    """One JSON document, with a line break at its end."""
    if isinstance(value, Value):
        plain: Any = plain_json(value)
    elif isinstance(value, dict):
        plain = value
    else:
        plain = [plain_json(item) for item in value]
    return shown_json(json.dumps(plain, indent=2, ensure_ascii=ascii_only)) + "\n"


def show_remedies(remedies: tuple[str, ...]) -> None:
    """What could lead to a release, for somebody whose run ended without one."""
    if remedies:
        out.print("\nwhat could lead to a release:")
    for line in remedies:
        out.print(f"  · {line}")


def another_release(objective: str) -> str:
    """What leads to another release where one is retired or rejected for good."""
    return (
        f"back from here: change what you want or the data it rests on, then tailorbird adapt {objective}: any value changed in the "
        "objective (a target, `seed`, `goal`) or in a row of its data leads to another release; what was trained is reused where nothing "
        "that it learned from has changed"
    )


def say(text: str) -> None:
    """A message on stderr."""
    err.print(text)


@contextmanager
def narrated(command: str, *, elsewhere: bool) -> Iterator[Progress]:
    """Progress on stderr while the body works; an interruption says what is kept, and that ``command`` resumes. ``elsewhere``: a server
    works, and goes on with it."""
    display = ProgressDisplay(err)
    try:
        with display as progress:
            yield progress
    except KeyboardInterrupt:
        raise Interrupted(display.kept(command, elsewhere=elsewhere)) from None
