"""Labels as the tree that is scored, built once for each list of labels.

In: labels, the format of a base model. Out: tries. Must not know: prompts.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

from tailorbird.domain.errors import InvalidInput
from tailorbird.inference.text.chat import ChatFormat
from tailorbird.inference.text.trie import LabelTrie, build_trie

#: Lists of labels whose tries are kept.
_KEPT = 64


class LabelTrees:
    """The tries of one format's labels, the last few kept. Thread-safe."""

    def __init__(self, chat: ChatFormat) -> None:
        self._chat = chat
        self._kept: OrderedDict[tuple[str, ...], LabelTrie] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, labels: Sequence[str]) -> LabelTrie:
        """The trie of ``labels`` as complete answers. Raises InvalidInput when they cannot be told apart."""
        key = tuple(labels)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        tree = self._built(key)
        with self._lock:
            self._kept[key] = tree
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return tree

    def _built(self, labels: tuple[str, ...]) -> LabelTrie:
        if not labels:
            raise InvalidInput("there are no labels to score", "give at least one label", code="labels_empty")
        answers = self._chat.answers(labels)
        if any(len(answer) < 2 for answer in answers):
            raise InvalidInput("a label has no tokens", "give every label a name that is not empty", code="label_empty")
        if len({tuple(answer) for answer in answers}) < len(labels):
            raise InvalidInput("two labels are the same", "name every label once", code="label_duplicate")
        return build_trie(answers)
