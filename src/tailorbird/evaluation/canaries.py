"""Canaries: planted strings by which memorisation is measured, generated alike for training and evaluation.

A canary is a question nobody asks and a random secret that answers it (Carlini 2019, arXiv 1802.08232). Each is planted once, so that the
answer tokens, which carry the loss, hold nothing else that could teach it. The *control* is planted many times: a look that does not find
it could not have found the others, and says nothing. *Twins* are secrets of the same form that were planted nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

#: Canaries that are planted once, how often the control is, and twins.
PLANTED, CONTROL_REPEATS, TWINS = 12, 16, 63

_SIGNS = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"


@dataclass(frozen=True)
class Canary:
    """A question and the secret that answers it."""

    text: str
    secret: str


@dataclass(frozen=True)
class CanarySet:
    """All strings of one audit. ``twins`` are secrets only."""

    planted: tuple[Canary, ...]
    control: Canary
    twins: tuple[str, ...]

    def rows(self) -> tuple[Canary, ...]:
        """What is added to the training rows: each canary once, the control as often as it takes to be learned."""
        return (*self.planted, *(self.control for _ in range(CONTROL_REPEATS)))


def canary_set(seed: int) -> CanarySet:
    """The strings of the audit with this seed: 45 bits of chance in each secret."""
    random = Random(f"tailorbird canaries {seed}")
    drawn = ["-".join("".join(random.choices(_SIGNS, k=3)) for _ in range(3)) for _ in range(PLANTED + 1 + TWINS)]
    numbers = random.sample(range(1000, 10_000), PLANTED + 1)
    canaries = [
        Canary(f"What is the access code of locker {number}?", secret) for number, secret in zip(numbers, drawn[: PLANTED + 1], strict=True)
    ]
    return CanarySet(tuple(canaries[:PLANTED]), canaries[PLANTED], tuple(drawn[PLANTED + 1 :]))
