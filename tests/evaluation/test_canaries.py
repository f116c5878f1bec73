"""Planted strings."""

from __future__ import annotations

from collections import Counter

from tailorbird.evaluation.canaries import CONTROL_REPEATS, PLANTED, TWINS, canary_set

BIRDS = canary_set(20)


def test_the_strings_are_the_same_every_time_and_other_with_another_seed() -> None:
    assert canary_set(20) == BIRDS != canary_set(21)
    secrets = [canary.secret for canary in (*BIRDS.planted, BIRDS.control)] + list(BIRDS.twins)
    assert len(set(secrets)) == PLANTED + 1 + TWINS
    assert Counter(canary.secret for canary in BIRDS.rows())[BIRDS.control.secret] == CONTROL_REPEATS
