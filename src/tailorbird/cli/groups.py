"""Command groups: a misspelt command is answered with the nearest one."""

from __future__ import annotations

from typing import Any

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
