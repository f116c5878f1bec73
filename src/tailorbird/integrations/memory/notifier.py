"""A notifier that tells nobody, and remembers what it was to tell.

In: messages. Out: the list of them, or a refusal as often as it was told to. Must not know: HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping

from tailorbird.domain.errors import Unavailable


class MemoryNotifier:
    """A ``Notifier`` for tests: ``sent`` holds what was delivered, oldest first; the next ``failures`` messages are not."""

    def __init__(self, failures: int = 0) -> None:
        self.sent: list[dict[str, object]] = []
        self.failures = failures

    def send(self, message: Mapping[str, object]) -> None:
        """Remembers ``message``. Raises Unavailable while failures are left."""
        if self.failures > 0:
            self.failures -= 1
            raise Unavailable("the message was not delivered", "try again", code="notifier_undelivered")
        self.sent.append(dict(message))
