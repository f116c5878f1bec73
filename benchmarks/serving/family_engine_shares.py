"""Share of the base's throughput that is kept with adapters: eight and 32 of them mixed, and 32 that are loaded while nobody asks them.

Ours alone, through the gateway, answers of 32 tokens, in turn: a gateway with its engine, and one without adapters for the last share.
While one is asked the other idles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

from engines import Ask, rate
from own import asks_own, own
from run import Bar, Measured, say

BARS: dict[str, Bar] = {
    "share_kept_with_8_adapters": (0.90, 0.95, "share", False),
    "share_kept_with_32_adapters": (0.85, 0.95, "share", False),
    "share_kept_with_adapters_idle": (0.98, 0.98, "share", False),
}
ADAPTERS, AT_ONCE = 32, 16


def measure(quick: bool) -> Measured:
    times = 2 if quick else 9
    with own(ADAPTERS) as server, own(0) as bare:
        ask, ask_bare = asks_own(server), asks_own(bare)
        mixed = _beside_the_base(ask, 8, AT_ONCE, times)
        more = _beside_the_base(ask, ADAPTERS, ADAPTERS, times)
        idle = _in_turn(
            {"loaded": lambda: rate(ask, [None], AT_ONCE, 3 * AT_ONCE), "none": lambda: rate(ask_bare, [None], AT_ONCE, 3 * AT_ONCE)}, times
        )
    values = {
        "share_kept_with_8_adapters": _kept(mixed["adapters"], mixed["base"]),
        "share_kept_with_32_adapters": _kept(more["adapters"], more["base"]),
        "share_kept_with_adapters_idle": _kept(idle["loaded"], idle["none"]),
    }
    detail = {"16 at once": mixed, "32 at once": more, "16 at once, base alone asked": idle}
    return Measured({name: round(value, 3) for name, value in values.items()}, {"output tokens/s": detail})


def _beside_the_base(ask: Ask, count: int, at_once: int, times: int) -> dict[str, list[float]]:
    """Tokens/s of the base alone, and of so many adapters mixed."""
    return _in_turn(
        {"adapters": partial(rate, ask, range(count), at_once, 3 * at_once), "base": partial(rate, ask, [None], at_once, 3 * at_once)},
        times,
    )


def _in_turn(goes: dict[str, Callable[[], float]], times: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in goes}
    for number in range(times + 1):
        for name in sorted(goes, reverse=bool(number % 2)):
            made = goes[name]()
            if number:
                found[name].append(round(made, 1))
    for name, values in found.items():
        say(f"{name}: {', '.join(f'{value:.0f}' for value in values)} tokens/s")
    return found


def _kept(with_adapters: Sequence[float], without: Sequence[float]) -> float:
    """Median of the rounds' ratios: the two of a pair ran one after the other."""
    return median(one / other for one, other in zip(with_adapters, without, strict=True))
