"""What a release was trained on, reduced to what drift is measured against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from pydantic import Field

from tailorbird.domain.dataset import Row
from tailorbird.domain.value import Value
from tailorbird.text.conversations import last_user_turn
from tailorbird.text.sketch import sketch

#: Rows that are kept: beyond this many, a test of drift gains nothing that its floor would let through.
MOST_ROWS = 2_000


class Reference(Value):
    """Sketches and lengths (in characters) of training messages, and how often each class is to be expected, as counts."""

    sketches: tuple[str, ...]
    characters: tuple[int, ...]
    classes: dict[str, int] = Field(default_factory=dict)


def reference_of(rows: Sequence[Row], classes: Iterable[str] = ()) -> Reference:
    """The reference of a release trained on ``rows``; ``classes`` is one class an item, best what the release answered at the gate.

    More than 2,000 rows are sampled by taking the first by id: ids are digests, so their order is random and the same everywhere. Texts of
    one sketch count once, as live ones do.
    """
    chosen = sorted(rows, key=lambda row: row.id)[:MOST_ROWS]
    lengths = {sketch(text): len(text) for text in (last_user_turn(row.text) for row in chosen)}
    return Reference(sketches=tuple(lengths), characters=tuple(lengths.values()), classes=dict(sorted(Counter(classes).items())))
