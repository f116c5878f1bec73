"""Clients that ask a gateway all the time, and what they were told."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from support.processes import ASK, CHAT, wait_until

CLIENTS = 4


@dataclass
class Traffic:
    """What clients were told: the ids of answers that came whole, and how often which status."""

    url: str
    secret: str
    answered: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    stop: threading.Event = field(default_factory=threading.Event)

    def ask(self) -> None:
        """One request after the other; a connection that breaks is made again."""
        headers = {"authorization": f"Bearer {self.secret}"}
        while not self.stop.is_set():
            try:
                answer = httpx.post(self.url + CHAT, json=ASK, headers=headers, timeout=20)
            except httpx.TransportError:
                self.statuses[0] += 1
                time.sleep(0.02)
                continue
            self.statuses[answer.status_code] += 1
            if answer.status_code == 200:
                self.answered.append(answer.json()["id"])

    def goes_on(self, more: int = 10) -> None:
        """Waits until so many more answers have come."""
        before = len(self.answered)
        wait_until(lambda: len(self.answered) >= before + more, 60)


@contextmanager
def traffic(url: str, secret: str) -> Iterator[Traffic]:
    """Clients that ask all the time."""
    told = Traffic(url, secret)
    threads = [threading.Thread(target=told.ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield told
    finally:
        told.stop.set()
        for thread in threads:
            thread.join(60)
