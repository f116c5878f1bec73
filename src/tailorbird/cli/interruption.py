"""Ctrl-C: what a command says when it is interrupted.

In: a narrator, the command to go on with. Out: ``Interrupted``, with the line to print. Must not know: what the command does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tailorbird.cli.narrator import Narrator

#: What is said where nothing more is known.
AGAIN = "interrupted: run the same command again, it goes on where it stopped"


class Interrupted(BaseException):
    """Somebody ended the command; its text is what they are told. No ``Exception``, as ``KeyboardInterrupt`` is none."""


@contextmanager
def told_if_interrupted(narrator: Narrator, command: str, *, elsewhere: bool = False) -> Iterator[None]:
    """Has an interruption of the body say what is kept, and that ``command`` goes on from there; ``elsewhere`` as in ``Narrator.kept``."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(narrator.kept(command, elsewhere=elsewhere)) from None
