"""Share of the base's throughput that is kept with adapters: eight and 32 of them mixed, and 32 that are loaded while nobody asks them.

Ours alone, through the gateway, answers of 32 tokens, all settings in turn. For the last a second gateway with its engine runs beside the
first, without adapters: while one is asked the other one idles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from engines import alternating, rate
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
        mixed = alternating(ask, {"base": [None], "eight": range(8)}, AT_ONCE, times)
        more = alternating(ask, {"base": [None], "32": range(ADAPTERS)}, ADAPTERS, times)
        idle = _in_turn(
            {"loaded": lambda: rate(ask, [None], AT_ONCE, 3 * AT_ONCE), "none": lambda: rate(ask_bare, [None], AT_ONCE, 3 * AT_ONCE)}, times
        )
    values = {
        "share_kept_with_8_adapters": _kept(mixed["eight"], mixed["base"]),
        "share_kept_with_32_adapters": _kept(more["32"], more["base"]),
        "share_kept_with_adapters_idle": _kept(idle["loaded"], idle["none"]),
    }
    detail = {"16 at once": mixed, "32 at once": more, "16 at once, base alone asked": idle}
    return Measured({name: round(value, 3) for name, value in values.items()}, {"output tokens/s": detail})


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
