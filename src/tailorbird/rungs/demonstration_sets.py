"""Sets of demonstrations for a prompt's search: drawn, typical of the rows, and changed from a set that does well."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tailorbird.domain.dataset import Row
from tailorbird.domain.prompt import Demonstration
from tailorbird.rungs.prompt import longest_shown
from tailorbird.text.search_index import words

#: Rows among which typical ones are looked for.
_POOL = 400

Shown = tuple[Demonstration, ...]


def demonstration_of(row: Row) -> Demonstration:
    """The row as it is shown."""
    return Demonstration(row_id=row.id, text=row.text, target=row.answer)


def typical_set(rows: Sequence[Row], count: int, seed: int) -> Shown:
    """``count`` rows that stand for all: each next one is that which brings the rows nearest to the one shown that is most like them
    (greedy facility location over the cosines of their words), and no answer is shown twice before each was shown once; the most typical
    stands last, next to the text."""
    longest = longest_shown(rows)
    pool = sorted((row for row in rows if len(row.text) <= longest), key=lambda row: row.id)
    generator = random.Random(f"{seed} typical")
    if len(pool) > _POOL:
        pool = generator.sample(pool, _POOL)
    likeness_NN = _likeness(pool)
    covered_N, chosen, given = np.zeros(len(pool)), list[int](), defaultdict[str, int](int)
    for _ in range(min(count, len(pool))):
        gains_N = np.maximum(likeness_NN, covered_N[:, None]).sum(axis=0) - covered_N.sum()
        left = [at for at in range(len(pool)) if at not in chosen]
        fewest = min(given[pool[at].answer] for at in left)
        best = max((at for at in left if given[pool[at].answer] == fewest), key=lambda at: (gains_N[at], -at))
        chosen.append(best)
        given[pool[best].answer] += 1
        covered_N = np.maximum(covered_N, likeness_NN[:, best])
    return tuple(demonstration_of(pool[at]) for at in reversed(chosen))


def _likeness(rows: Sequence[Row]) -> NDArray[np.float64]:
    """Cosines of the rows' words, each weighed by how few rows have it."""
    bags = [set(words(row.text)) for row in rows]
    places = {word: at for at, word in enumerate(sorted(set().union(*bags)))}
    counts_NW = np.zeros((len(rows), max(1, len(places))))
    for at, bag in enumerate(bags):
        counts_NW[at, [places[word] for word in bag]] = 1.0
    counts_NW *= np.log(len(rows) / np.maximum(1.0, counts_NW.sum(axis=0))) + 1e-6
    norms_N1 = np.linalg.norm(counts_NW, axis=1, keepdims=True)
    scaled_NW = counts_NW / np.maximum(norms_N1, 1e-12)
    likeness: NDArray[np.float64] = scaled_NW @ scaled_NW.T
    return likeness


def like_the_worst(rows: Sequence[Row], answered: Sequence[tuple[Row, float]]) -> list[Row]:
    """Those of ``rows`` that are most like what was answered worst, by their words: one for each row of ``answered`` (with its score), in
    the order of the scores, none twice."""
    pool = sorted(rows, key=lambda row: row.id)
    worst = sorted(answered, key=lambda one: (one[1], one[0].id))
    likeness_NN = _likeness([*(row for row, _ in worst), *pool])[: len(worst), len(worst) :]
    nearest = dict.fromkeys(int(likeness_P.argmax()) for likeness_P in likeness_NN) if pool else {}
    return [pool[at] for at in nearest]


def changed_sets(shown: Shown, other: Shown, rows: Sequence[Row], wanted: Sequence[Row], seed: int) -> list[tuple[str, Shown]]:
    """Sets near ``shown``, each with a word on how it was made: the first of ``wanted`` in place of a third (rows that stand for what does
    worst); a third of it drawn anew, twice; half of it with half of ``other``; the same in another order."""
    generator = random.Random(f"{seed} changed")
    longest = longest_shown(rows)
    pool = sorted((row for row in rows if len(row.text) <= longest), key=lambda row: row.id)
    drawn = [_exchanged(shown, generator.sample(pool, min(len(pool), len(shown))), generator) for _ in range(2)]
    fitting = [row for row in wanted if len(row.text) <= longest]
    ordered = list(shown)
    generator.shuffle(ordered)
    half = len(shown) // 2
    mixed = list({one.row_id: one for one in (*shown[half:], *other)}.values())[: len(shown)]
    sets = [("for what did worst", _exchanged(shown, fitting, generator)), ("part drawn anew", drawn[0])]
    return [*sets, ("two mixed", tuple(reversed(mixed))), ("another order", tuple(ordered)), ("part drawn anew", drawn[1])]


def _exchanged(shown: Shown, rows: Sequence[Row], generator: random.Random) -> Shown:
    """A third of the set exchanged for the first of ``rows`` that it does not show."""
    known = {one.row_id for one in shown}
    fresh = [demonstration_of(row) for row in rows if row.id not in known][: max(1, len(shown) // 3)]
    changed = list(shown)
    for place, one in zip(generator.sample(range(len(changed)), min(len(fresh), len(changed))), fresh, strict=False):
        changed[place] = one
    return tuple(changed)
