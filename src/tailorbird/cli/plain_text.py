"""Plain text on the standard streams."""

from __future__ import annotations

import typer

from tailorbird.text.terminal_text import shown


def tell(text: str, *, err: bool = False) -> None:
    """A text on stdout or, with ``err``, on stderr, as it stands but for what ``shown`` writes out."""
    typer.echo(shown(text), err=err)
