"""Gateway heartbeat, with the last alias version applied."""

from __future__ import annotations

import logging
import time

from tailorbird.domain.errors import TailorbirdError
from tailorbird.ports.clock import Clock
from tailorbird.ports.ledger import Ledger

_log = logging.getLogger("tailorbird.serving")

#: Seconds between two heartbeats, and after which one is too old to count.
BEAT_EVERY, GONE_AFTER = 5.0, 15.0


class GatewayHeartbeat:
    """Heartbeat row of the gateway ``gateway``; one without a name writes nothing."""

    def __init__(self, ledger: Ledger, clock: Clock, gateway: str) -> None:
        self._ledger = ledger
        self._clock = clock
        self._gateway = gateway
        self._shown = -1
        self._at = float("-inf")

    def show(self, moves: int) -> None:
        """Writes the row when it is due. May wait for the ledger; what fails is tried again at the next call."""
        due = moves != self._shown or time.monotonic() - self._at > BEAT_EVERY
        if not self._gateway or not due:
            return
        try:
            with self._ledger.system() as system:
                system.gateways.beat(self._gateway, moves, self._clock.now())
        except TailorbirdError as error:
            _log.warning("the heartbeat could not be written (%s)", error.error_code)
        else:
            self._shown, self._at = moves, time.monotonic()

    def end(self) -> None:
        """Removes the row."""
        if self._shown < 0:
            return
        try:
            with self._ledger.system() as system:
                system.gateways.leave(self._gateway)
        except TailorbirdError as error:
            _log.warning("the heartbeat could not be removed (%s)", error.error_code)
