"""Label sets as text and back: ``billing | refund``, or ``none`` for the empty set."""

from __future__ import annotations

from collections.abc import Iterable

from tailorbird.domain.errors import InvalidInput

#: What the empty set is written as, and so no label's name.
NONE = "none"
SEPARATOR = "|"


def join(labels: Iterable[str]) -> str:
    """The text of a set of labels: sorted, each once, `` | `` between; ``none`` for the empty set.

    Raises InvalidInput when a label could not be told from the text around it: see ``check``.
    """
    distinct = sorted(set(labels))
    for label in distinct:
        check(label)
    return f" {SEPARATOR} ".join(distinct) or NONE


def split(text: str) -> tuple[str, ...]:
    """The labels in ``text``, sorted, each once.

    Any text is taken: outer white space and what is empty between separators do not count, nor does a ``none`` beside other labels. So
    ``split(join(labels))`` gives the labels back, and ``join(split(text))`` is the one spelling of ``text``.
    """
    parts = {part.strip() for part in text.split(SEPARATOR)}
    return tuple(sorted(part for part in parts if part and part.casefold() != NONE))


def check(label: str) -> None:
    """Raises InvalidInput when ``label`` is blank, has outer white space, holds the separator, or reads as the empty set."""
    if not label.strip() or label != label.strip():
        raise InvalidInput("a label is blank or has outer white space", "write the label without it", code="label_reserved")
    if SEPARATOR in label:
        hint = f"rename the label without {SEPARATOR!r}, which stands between labels"
        raise InvalidInput(f"the label {label[:80]!r} holds {SEPARATOR!r}", hint, code="label_reserved")
    if label.casefold() == NONE:
        hint = f"rename the label (to 'other', say): {NONE!r} alone says that no label applies, which in a list is []"
        raise InvalidInput(f"a label cannot be called {label!r}", hint, code="label_reserved")
