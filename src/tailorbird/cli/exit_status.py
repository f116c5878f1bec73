"""What a command's exit status means. ``docs/cli.md`` lists them; a test holds the list against this file."""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """The exit statuses of ``tailorbird``. Each has one meaning, whatever the verb."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    ALARM = 3
    NO_RELEASE = 4
    INTERRUPTED = 130
