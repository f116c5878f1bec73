"""Labels in the words of a model that writes its answer, where no label can be scored."""

from __future__ import annotations

import re

from tailorbird.domain.prompt import PromptSpec
from tailorbird.text import label_sets

#: What models put around a label: quotes, brackets, marks of Markdown, and a full stop.
_AROUND = " \t\r\n\"'`*_.:,;!()[]{}<>“”‘’«»"
#: What stands before a label: ``Label: refund``.
_BEFORE = re.compile(r"^(?:the\s+)?(?:label|labels|answer|category|intent|class)(?:\s+is)?\s*:?\s+", re.IGNORECASE)
#: Words of an answer that are looked through for a label.
_SEARCHED = 2000


def answered_label(prompt: PromptSpec, text: str) -> str:
    """The label of ``prompt`` that a written answer gives, or the set of them as one text; empty where it gives none, or not one alone.

    An answer that is a label but for quotes, case and punctuation is that label; else the only label that occurs in it as whole words.
    """
    known = {_plain(label): label for label in prompt.labels}
    if prompt.label_sets or prompt.alone:
        return _answered_set(known, text)
    plain = _plain(_BEFORE.sub("", text.strip(_AROUND)))
    if plain in known:
        return known[plain]
    found = _occurring(known, _plain(text[:_SEARCHED]))
    return known[found[0]] if len(found) == 1 else ""


def _answered_set(known: dict[str, str], text: str) -> str:
    parts = [plain for part in _BEFORE.sub("", text.strip(_AROUND)).split(label_sets.SEPARATOR) if (plain := _plain(part))]
    if parts == [label_sets.NONE]:
        return label_sets.NONE
    return label_sets.join(known[part] for part in parts) if parts and all(part in known for part in parts) else ""


def _plain(text: str) -> str:
    return " ".join(text.strip(_AROUND).casefold().split())


def _occurring(known: dict[str, str], text: str) -> list[str]:
    """Labels that occur as whole words, without those that only occur within a longer one."""
    found = [plain for plain in known if plain and re.search(rf"(?<!\w){re.escape(plain)}(?!\w)", text)]
    return [plain for plain in found if not any(plain != other and plain in other for other in found)]
