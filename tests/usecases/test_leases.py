"""Whether a lease is kept alive is told by its renewals: neither by the clock of who holds it nor by that of who looks."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from tailorbird.domain.run import LONGEST_LEASE
from tailorbird.usecases.leases import LeaseWatch, heartbeat

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
AHEAD = NOW + timedelta(hours=3)
LEASE = timedelta(seconds=20)


class Looker:
    """Looks at a lease, and counts its own seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.watch = LeaseWatch(lambda: self.seconds)

    def looks(self, until: datetime | None, now: datetime, after: float = 1.0) -> bool:
        self.seconds += after
        return self.watch.is_kept(until, now)


def test_a_clock_far_ahead_does_not_end_what_is_renewed() -> None:
    """By that clock every lease has run out: who helped went as soon as it came."""
    looker = Looker()
    for beat in range(10):
        held = NOW + timedelta(seconds=4 * beat) + LEASE
        assert all(looker.looks(held, AHEAD + timedelta(seconds=4 * beat + second)) for second in range(4))


def test_a_holder_that_is_gone_is_told_by_any_clock() -> None:
    for now in (NOW, AHEAD, NOW - timedelta(hours=3)):
        looker = Looker()
        assert looker.looks(NOW + LEASE, now)
        assert looker.looks(NOW + LEASE + timedelta(seconds=4), now + timedelta(seconds=4), after=4.0)
        assert looker.looks(NOW + LEASE + timedelta(seconds=4), now + timedelta(seconds=20), after=16.0)
        assert not looker.looks(NOW + LEASE + timedelta(seconds=4), now + timedelta(seconds=25), after=5.0)


def test_a_lease_that_nobody_is_seen_to_renew_ends_by_the_clock() -> None:
    looker = Looker()
    assert looker.looks(NOW + LEASE, NOW)
    assert not looker.looks(NOW + LEASE, NOW + timedelta(seconds=21), after=21.0)
    late = Looker()
    assert late.looks(NOW, AHEAD)
    assert not late.looks(NOW, AHEAD, after=11.0)


def test_a_lease_of_a_clock_far_ahead_whose_holder_died_is_not_believed_for_ever() -> None:
    looker = Looker()
    assert looker.looks(AHEAD, NOW)
    assert not looker.looks(AHEAD, NOW + timedelta(minutes=6), after=LONGEST_LEASE.total_seconds() + 1)


def test_without_a_lease_nobody_is_at_it() -> None:
    looker = Looker()
    assert not looker.looks(None, NOW)
    assert looker.looks(NOW + LEASE, NOW)
    assert not looker.looks(None, NOW)


def test_a_beat_that_fails_is_followed_by_the_next() -> None:
    beats, enough = list[int](), threading.Event()

    def beat() -> bool:
        beats.append(1)
        if len(beats) < 3:
            raise KeyError("a customer's words")
        enough.set()
        return False

    with heartbeat(0.001, beat):
        assert enough.wait(30)
    assert len(beats) == 3
