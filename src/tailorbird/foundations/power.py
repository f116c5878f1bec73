"""What a test can prove before it is made: chances of passing the gate, the rate it takes, the items it takes.

In: numbers of items, a target, a confidence. Out: probabilities, rates, sizes; exact for independent items. Must not know: metrics by name,
splits, objectives.

A candidate passes a split when the lower end of Wilson's interval reaches the target. The rule asks that of dev and of test, so the chance
of passing is the product over both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from scipy import special

from tailorbird.foundations.statistics import smallest_passing

#: What "four times out of five" is reckoned with: a little more, so that the promise is kept and not just met.
STATED_POWER = 0.82
#: The most items that ``items_for_power`` looks at.
_MOST_ITEMS = 1 << 20


def pass_probability(rate: float, n: int, target: float, confidence: float) -> float:
    """The chance that a candidate with the true ``rate`` passes on ``n`` independent items; 0 where even ``n`` hits would not do."""
    least = smallest_passing(n, target, confidence)
    if least is None:
        return 0.0
    return float(special.bdtrc(least - 1, n, rate)) if least else 1.0


def rate_for_power(sizes: Sequence[int], target: float, confidence: float, power: float = STATED_POWER) -> float | None:
    """The smallest true rate that passes all of ``sizes`` with probability ``power``; None where no rate does."""
    if prod(pass_probability(1.0, n, target, confidence) for n in sizes) < power:
        return None
    return _smallest(lambda rate: prod(pass_probability(rate, n, target, confidence) for n in sizes) >= power)


def items_for_power(rate: float, target: float, confidence: float, power: float = STATED_POWER) -> int | None:
    """The number of items from which on a candidate with the true ``rate`` passes with probability ``power``; None where a million do not.

    The chance rises in a saw-tooth, so the number is taken from which it holds for the next dozen sizes too.
    """
    if rate <= target:
        return None
    high = 1
    while pass_probability(rate, high, target, confidence) < power:
        high *= 2
        if high > _MOST_ITEMS:
            return None
    n = high // 2
    while any(pass_probability(rate, n + step, target, confidence) < power for step in range(12)):
        n += max(1, n // 100)
    return n


def _smallest(holds: Callable[[float], bool]) -> float:
    """The smallest rate in [0, 1] for which ``holds``, which is monotone and true at 1, to six digits."""
    low, high = 0.0, 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
