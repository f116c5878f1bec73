"""Two engine processes of half the machine each, beside one of the whole: throughput through the gateway, in turn.

On a machine of two cores this is what dividing costs: each process reads the base's weights for itself, and half a batch at a time.
"""

from __future__ import annotations

from statistics import median

from engines import rate
from own import asks_own, own
from run import Bar, Measured, say

BARS: dict[str, Bar] = {
    "base_two_processes_vs_one": (0.7, 1.0, "ratio", False),
    "eight_adapters_two_processes_vs_one": (0.7, 1.0, "ratio", False),
    "one_at_a_time_two_processes_vs_one": (0.7, 1.0, "ratio", False),
}
_ADAPTERS, _AT_ONCE = 8, 16


def measure(quick: bool) -> Measured:
    found: dict[str, dict[str, list[float]]] = {}
    with own(_ADAPTERS) as one, own(_ADAPTERS, processes=2) as two:
        goes = {"one": asks_own(one), "two": asks_own(two)}
        asked: dict[str, tuple[list[int | None], int]] = {
            "base": ([None], _AT_ONCE),
            "eight_adapters": ([*range(_ADAPTERS)], _AT_ONCE),
            "one_at_a_time": ([None], 1),
        }
        for number in range(3 if quick else 8):
            for name in sorted(goes, reverse=bool(number % 2)):
                for kind, (adapters, at_once) in asked.items():
                    made = rate(goes[name], adapters, at_once, 3 * at_once)
                    if number > 1 or (quick and number):  # by then what is asked much is held by both
                        found.setdefault(kind, {}).setdefault(name, []).append(round(made, 1))
    for kind, each in found.items():
        say(f"{kind}: {each} tokens/s")
    values = {
        f"{kind}_two_processes_vs_one": round(median(two / one for one, two in zip(each["one"], each["two"], strict=True)), 3)
        for kind, each in found.items()
    }
    return Measured(values, {"output tokens/s": found})
