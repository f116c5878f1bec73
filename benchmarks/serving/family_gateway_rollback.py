"""A name is moved back under load: how long the old release goes on to be given requests, and whether any request fails."""

from __future__ import annotations

import json
import threading
import time
from statistics import median
from typing import Any

from loading import CHAT, Lone, body, lone_gateway
from run import Bar, Measured

BARS: dict[str, Bar] = {
    "alias_rollback_last_admission_s": (2.0, 0.5, "seconds", True),
    "alias_rollback_failed_requests": (0, 0, "requests", True),
}
_CLIENTS = 8


def measure(quick: bool) -> Measured:
    with lone_gateway() as lone:
        moves = [_move(lone, place) for place in range(2 if quick else 6)]
    late = [move["last_admission_s"] for move in moves]
    values = {
        "alias_rollback_last_admission_s": round(median(late), 3),
        "alias_rollback_failed_requests": sum(move["failed"] for move in moves),
    }
    return Measured(values, {"moves": moves, "worst_s": max(late), "clients": _CLIENTS})


def _move(lone: Lone, place: int) -> dict[str, Any]:
    """Points the name to the other release while clients ask; the time is from the commit to the last request that the old one was
    given."""
    old, new = lone.classifiers if place % 2 == 0 else lone.classifiers[::-1]
    answered: list[tuple[float, str]] = []
    failed: list[int] = []
    stop = threading.Event()
    threads = [threading.Thread(target=_ask, args=(lone, answered, failed, stop)) for _ in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    time.sleep(1.0)
    lone.house.point("routing", new)
    moved = time.perf_counter()
    time.sleep(2.5)
    stop.set()
    for thread in threads:
        thread.join()
    late = [sent - moved for sent, release in answered if release == old and sent > moved]
    assert any(release == new for _, release in answered)
    return {"requests": len(answered), "failed": len(failed), "last_admission_s": round(max(late, default=0.0), 3)}


def _ask(lone: Lone, answered: list[tuple[float, str]], failed: list[int], stop: threading.Event) -> None:
    connection, asked = lone.connection(), body("acme/routing", "I lost my card")
    while not stop.is_set():
        sent = time.perf_counter()
        try:
            connection.request("POST", CHAT, asked, lone.head)
            answer = connection.getresponse()
            told = json.loads(answer.read())
        except OSError:
            failed.append(0)
            connection = lone.connection()
            continue
        if answer.status == 200:
            answered.append((sent, told["tailorbird"]["release"]))
        else:
            failed.append(answer.status)
