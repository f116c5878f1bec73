"""Shared options, exit statuses and interruption of one call of the command line. ``docs/cli.md`` lists them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from tailorbird.cli.progress import ProgressDisplay


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


@contextmanager
def told_if_interrupted(narrator: ProgressDisplay, command: str, *, elsewhere: bool = False) -> Iterator[None]:
    """Reports what is kept when the body is interrupted, and that ``command`` resumes; ``elsewhere`` as in ``ProgressDisplay.kept``."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(narrator.kept(command, elsewhere=elsewhere)) from None
