"""Gateway heartbeat: written when a move was applied or time has passed, tried again after a failure, removed at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from types import SimpleNamespace
from typing import Any, cast

from support.serving import House
from tailorbird.domain.errors import Unavailable
from tailorbird.ledger import Ledger
from tailorbird.serving import reconciler


class Rows:
    """The ledger's gateways, as far as a heartbeat uses them."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}
        self.writes, self.away = 0, False

    @contextmanager
    def system(self) -> Iterator[Any]:
        if self.away:
            raise Unavailable("the ledger is away", "wait")
        yield SimpleNamespace(gateways=self)

    def beat(self, gateway: str, moves: int, _at: datetime) -> None:
        self.seen[gateway], self.writes = moves, self.writes + 1

    def leave(self, gateway: str) -> None:
        del self.seen[gateway]


def test_it_is_written_for_each_applied_move_and_otherwise_once_in_a_while(house: House) -> None:
    rows = Rows()
    beat = reconciler.GatewayHeartbeat(cast(Ledger, rows), house.clock, "gateway-1")
    for moves in (3, 3, 4, 4):
        beat.beat(moves)
    assert (rows.seen, rows.writes) == ({"gateway-1": 4}, 2)
    beat.end()
    assert rows.seen == {}


def test_what_failed_is_tried_again_and_nothing_is_raised(house: House) -> None:
    rows = Rows()
    beat = reconciler.GatewayHeartbeat(cast(Ledger, rows), house.clock, "gateway-1")
    rows.away = True
    beat.beat(3)
    beat.end()
    rows.away = False
    beat.beat(3)
    assert rows.seen == {"gateway-1": 3}
