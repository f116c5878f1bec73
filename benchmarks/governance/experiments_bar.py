"""How often the interval of a rollout's guard leaves 0 out although both arms are one release, at any of its looks.

Users fall on the arms by chance, each has an event (an error, a good answer) with one probability, and the interval is looked at whenever
twenty more have asked, from thirty users of either arm on, as a guard does. What is promised to either side is what a guard of six has of
``alpha`` 0.05. Beside it the same with variances as they were seen, which is how it was before docs/design/releases.md.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator

import numpy as np

from tailorbird.stats.sequential import Moments, mean_difference

SHARES = (0.02, 0.05, 0.25, 0.5)
RATES = (0.01, 0.03, 0.05, 0.1, 0.2, 0.5)
LEVEL = 0.05 / 6
USERS, LOOK, FEWEST = 3000, 20, 30


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    stories = 100 if parser.parse_args().quick else 1500
    generator = np.random.default_rng(143)
    found = {
        f"{100 * share:g} % of users, {100 * rate:g} % events": left_out(generator, share, rate, stories)
        for share in SHARES
        for rate in RATES
    }
    worst = max(max(sides["bounded"]) for sides in found.values())
    bar = LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / stories)
    told = {
        "value": round(worst, 4),
        "bar": round(bar, 4),
        "unit": "of rollouts whose interval leaves 0 out on one side, at most",
        "holds": worst <= bar,
        "in": "full",
        "stories": stories,
        "before": round(max(max(sides["as seen"]) for sides in found.values()), 4),
        "each": found,
    }
    print(json.dumps({"intervals_of_nothing": told}))


def left_out(generator: np.random.Generator, share: float, rate: float, stories: int) -> dict[str, tuple[float, float]]:
    """The share of stories in which an interval ever lay above 0, and below it."""
    sides = {"bounded": [0, 0], "as seen": [0, 0]}
    for _ in range(stories):
        arms = list(looks(generator.random(USERS) < share, generator.random(USERS) < rate))
        for name, counted in sides.items():
            ends = [found for pair in arms if (found := mean_difference([pair], LEVEL, bounded=name == "bounded"))]
            counted[0] += any(found.low > 0 for found in ends)
            counted[1] += any(found.high < 0 for found in ends)
    return {name: (round(above / stories, 4), round(below / stories, 4)) for name, (above, below) in sides.items()}


def looks(second_U: np.ndarray, event_U: np.ndarray) -> Iterator[tuple[Moments, Moments]]:
    """What was counted on either arm at each look."""
    units, events = np.stack([~second_U, second_U]).cumsum(axis=1), np.stack([event_U & ~second_U, event_U & second_U]).cumsum(axis=1)
    for at in range(LOOK - 1, USERS, LOOK):
        if units[:, at].min() >= FEWEST:
            first, second = (Moments(int(n), float(x), float(x)) for n, x in zip(units[:, at], events[:, at], strict=True))
            yield first, second


if __name__ == "__main__":
    main()
