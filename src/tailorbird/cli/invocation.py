"""Shared options, exit statuses, interruption, command groups and plain text of one call. ``docs/reference/cli.md`` lists them."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from tailorbird.text.terminal_text import shown
from tailorbird.text.words import nearest

if TYPE_CHECKING:
    pass

#: Environment variables: the URL of the server that is asked, and a file with the certificate authority to trust there.
SERVER, SERVER_CA = "TAILORBIRD_SERVER", "TAILORBIRD_SERVER_CA"


@dataclass(frozen=True)
class SharedOptions:
    """Options of the root that every verb shares; they stand before or after the verb."""

    workspace: Path | None = None
    who: str | None = None
    key: Path | None = None
    as_json: bool = False
    server: str = ""
    ca: str = ""

    def refuse(self, verb: str, *names: str) -> None:
        """Raises UnusedOption when one of the fields ``names`` is set: ``verb`` has no use for it."""
        for name in names:
            if getattr(self, name):
                raise UnusedOption(f"{FLAGS[name]} means nothing to {verb}")


#: Field of the shared options → its flag.
FLAGS = {field.name: {"who": "--as", "as_json": "--json"}.get(field.name, f"--{field.name}") for field in fields(SharedOptions)}

_NONE = SharedOptions()
_options: ContextVar[SharedOptions] = ContextVar("shared_options", default=_NONE)


class UnusedOption(typer.BadParameter):
    """A shared option that the verb has no use for: a usage error."""

    def format_message(self) -> str:
        """The message alone: it names the option."""
        return self.message


def shared_options() -> SharedOptions:
    """The shared options of this call."""
    return _options.get()


def begin(options: SharedOptions) -> None:
    """Keeps the shared options that stand before the verb."""
    _options.set(options)


def amend(name: str, value: Any) -> None:
    """Keeps a shared option that stands after the verb; the last one counts."""
    _options.set(replace(_options.get(), **{name: value}))


class ExitStatus(IntEnum):
    """The exit statuses of ``tailorbird``. Each has one meaning, whatever the verb."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    ALARM = 3
    NO_RELEASE = 4
    INTERRUPTED = 130


#: What is said where nothing more is known.
AGAIN = "interrupted: run the same command again, it goes on where it stopped"


class Interrupted(BaseException):
    """Somebody ended the command; its text is what they are told. No ``Exception``, as ``KeyboardInterrupt`` is none."""


class CommandGroup(TyperGroup):
    """A command group that names the command that was meant."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that ``args`` begin with. A name that no command has is a usage error."""
        name = args[0]
        if not name.startswith("-") and not ctx.resilient_parsing and self.get_command(ctx, name) is None:
            near = nearest(name, self.list_commands(ctx))
            known = f"did you mean {near}?" if near else f"commands are: {', '.join(self.list_commands(ctx))}"
            ctx.fail(f"no command {name!r}: {known}")
        return super().resolve_command(ctx, args)


def command() -> typer.Typer:
    """A verb without subcommands. Its help is plain text: brackets are no markup."""
    return typer.Typer(add_completion=False, rich_markup_mode=None)


def command_group(does: str = "", *, runs_alone: bool = False) -> typer.Typer:
    """A verb with subcommands, and what it ``does``. Without one it shows its help, or with ``runs_alone`` does its own work."""
    made = typer.Typer(
        cls=CommandGroup, add_completion=False, rich_markup_mode=None, no_args_is_help=not runs_alone, invoke_without_command=runs_alone
    )
    if does:
        made.callback(help=does)(lambda: None)
    return made


def tell(text: str, *, err: bool = False) -> None:
    """A text on stdout or, with ``err``, on stderr, as it stands but for what ``shown`` writes out."""
    typer.echo(shown(text), err=err)
