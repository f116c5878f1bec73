"""Throttle: a few failures per network in a window, counted while an attempt is under way, and forgotten when it succeeds."""

from __future__ import annotations

import pytest

from tailorbird.auth import Throttle, network_of


class Watch:
    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def test_failures_are_limited_until_the_oldest_leaves_the_window() -> None:
    now = Watch()
    throttle = Throttle(2, 60.0, now)
    assert throttle.begin("192.0.2.1") == 0
    now.at = 10.0
    assert throttle.begin("192.0.2.1") == 0
    now.at = 30.0
    assert throttle.begin("192.0.2.1") == throttle.wait("192.0.2.1") == 30.0
    assert throttle.begin("192.0.2.2") == 0
    now.at = 60.0
    assert throttle.begin("192.0.2.1") == 0
    assert throttle.begin("192.0.2.1") == 10.0


def test_a_success_takes_its_own_attempt_back_and_no_other() -> None:
    throttle = Throttle(2, 60.0, Watch())
    for _ in range(5):
        assert throttle.begin("192.0.2.1") == 0
        throttle.succeed("192.0.2.1")
    throttle.fail("192.0.2.1")
    throttle.begin("192.0.2.1")
    throttle.succeed("192.0.2.1")
    throttle.fail("192.0.2.1")
    assert throttle.begin("192.0.2.1") == 60.0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("/run/socket", "/run/socket", True),
    ],
)
def test_addresses_of_one_network_count_as_one(one: str, other: str, same: bool) -> None:
    assert (network_of(one) == network_of(other)) is same
    throttle = Throttle(1, 60.0, Watch())
    throttle.fail(one)
    assert bool(throttle.wait(other)) is same
