"""Environment variables, exit statuses and interruption of one call of the command line. ``docs/cli.md`` lists the statuses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tailorbird.cli.progress import ProgressDisplay


#: The URL of the server that is asked, and a file with the certificate authority to trust there.
SERVER, SERVER_CA = "TAILORBIRD_SERVER", "TAILORBIRD_SERVER_CA"


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
