"""Commands and command groups of the verbs: plain help, and suggestions for misspelt names."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from tailorbird.text.normalisation import nearest


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


def command_group(*, runs_alone: bool = False) -> typer.Typer:
    """A verb with subcommands; without one it shows its help, or with ``runs_alone`` does its own work."""
    return typer.Typer(
        cls=CommandGroup, add_completion=False, rich_markup_mode=None, no_args_is_help=not runs_alone, invoke_without_command=runs_alone
    )
