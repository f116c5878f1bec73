"""Labels in the words of a model that writes its answer, where no label can be scored."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

from tailorbird.domain.prompt import PromptSpec
from tailorbird.domain.thought_blocks import written_answer
from tailorbird.text import label_sets

#: What models put around a label: quotes, brackets, marks of Markdown, and a full stop.
_AROUND = " \t\r\n\"'`*_.:,;!()[]{}<>“”‘’«»。，、！：；「」『』（）【】《》"
#: Those of them that are seldom part of a label.
_QUOTES = " \"'`“”‘’«»"
#: What stands before a label: ``Label: refund``.
_BEFORE = re.compile(r"^(?:the\s+)?(?:label|labels|answer|category|intent|class)(?:\s+is)?\s*:?\s+", re.IGNORECASE)
#: Letters of Chinese, Japanese and Korean, beside which no space tells where a word ends.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003134f"
#: Words of an answer that are looked through for a label.
_SEARCHED = 2000


def answered_label(prompt: PromptSpec, text: str) -> str:
    """The label of ``prompt`` that a written answer gives, or the set of them as one text; empty where it gives none, or not one alone.

    An answer that is a label as it is written is that label; then one that is a label but for case, for quotes and a full stop, for any
    marks around it; else the only label that occurs in it as whole words. Where several labels are alike in that, it gives none. A block of
    reasoning before the answer is not read, and nothing is where the answer ends within it.
    """
    said = written_answer(text)
    if prompt.label_sets or prompt.alone:
        return _answered_set(prompt.labels, said)
    if (named := _named(prompt.labels, said)) is None:
        named = _named(prompt.labels, _after(said))
    return _occurring(prompt.labels, said[:_SEARCHED]) if named is None else named


def _answered_set(labels: tuple[str, ...], text: str) -> str:
    for said in (text, _after(text)):
        parts = [part for part in said.split(label_sets.SEPARATOR) if _spaced(part)]
        if [_plain(part) for part in parts] == [label_sets.NONE]:
            return label_sets.NONE
        named = [_named(labels, part) for part in parts]
        if named and all(named):
            return label_sets.join(label for label in named if label)
    return ""


def _named(labels: tuple[str, ...], text: str) -> str | None:
    """The label that ``text`` is, in the strictest form in which it is any; empty where it is several alike, None where it is none."""
    for form in _FORMS:
        if found := _names(labels, form).get(form(text)):
            return found[0] if len(found) == 1 else ""
    return None


def _after(text: str) -> str:
    """What follows ``Label:`` or the like."""
    return _BEFORE.sub("", text.lstrip(_AROUND))


def _spaced(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _cased(text: str) -> str:
    return _spaced(text).casefold()


def _unquoted(text: str) -> str:
    return _cased(text).strip(_QUOTES).rstrip(_QUOTES + ".")


def _plain(text: str) -> str:
    return _cased(text).strip(_AROUND)


#: What is compared of a label and an answer, the strictest first.
_FORMS: tuple[Callable[[str], str], ...] = (_spaced, _cased, _unquoted, _plain)


@lru_cache(maxsize=16)
def _names(labels: tuple[str, ...], form: Callable[[str], str]) -> dict[str, tuple[str, ...]]:
    """The labels by what ``form`` leaves of them; those of which it leaves nothing are missing. Longer names come first."""
    names = sorted({form(label) for label in labels} - {""}, key=lambda name: (-len(name), name))
    return {name: tuple(label for label in labels if form(label) == name) for name in names}


def _occurring(labels: tuple[str, ...], text: str) -> str:
    """The only label that occurs in ``text`` as whole words, apart from those that occur within a longer one; empty where there is none, or
    another one. Labels are looked for with the marks that belong to them, then without. Where words are not spaced, a label of two letters
    or more may stand within others."""
    for form in (_cased, _plain):
        left, found = _cased(text), list[str]()
        for name, alike in _names(labels, form).items():
            whole = _whole(name)
            if re.search(whole, left):
                found += alike
                left = re.sub(whole, " ", left)
        if found:
            return found[0] if len(found) == 1 else ""
    return ""


def _whole(name: str) -> str:
    """A pattern of ``name`` as whole words."""
    before, after = _edge(name, name[0]), _edge(name, name[-1])
    return f"(?<!{before}){re.escape(name)}(?!{after})"


def _edge(name: str, letter: str) -> str:
    """What may not stand beside ``letter``, the first or the last of ``name``."""
    if not re.match(f"[{_UNSPACED}]", letter):
        return rf"[^\W{_UNSPACED}]"
    return r"\w" if len(name) == 1 else r"[^\s\S]"
