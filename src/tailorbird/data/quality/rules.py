"""The rules of quality, one small function each.

In: a row's text and target, whether the target is an answer, a policy. Out: the rules that the row breaks. Must not know: files, splits.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from tailorbird.data.quality.languages import language_of
from tailorbird.domain.curation import QualityPolicy, QualityRule

#: The version of all rules.
VERSION = "1"

_MARKUP = re.compile(
    r"(?i)</?(?:div|span|p|br|td|tr|table|a|li|ul|font|script|style|img|b|i|h[1-6])(?:\s[^<>]{0,200})?/?>|&(?:nbsp|amp|lt|gt"
    r"|quot|#\d{2,5});"
)
_REFUSAL = re.compile(
    r"(?i)\b(?:as an? (?:ai|artificial intelligence|large language model|language model|virtual ai)|i(?:'m"
    r"| am) (?:just )?an? (?:ai|language model)"
    r"|i(?:'m| am) (?:sorry|afraid),? (?:but )?i (?:can(?:no|')t|am unable to|am not able to) (?:assist|help|fulfil+|comply"
    r"|provide|do that)"
    r"|i (?:cannot|can't) (?:fulfil+|comply with|assist with) (?:that|this|your) request|my (?:training data|knowledge cut-?off))\b"
)
_TEMPLATE = re.compile(
    r"\{\{[^{}]{1,60}\}\}|\{%[^%]{1,200}%\}|<%[^%]{1,200}%>|\$\{[^{}]{1,60}\}|\[(?:INSERT|YOUR|NAME|COMPANY|CUSTOMER|TODO"
    r"|PLACEHOLDER)[^\]]{0,40}\]"
    r"|<\|[a-z_]{2,30}\|>|\[/?INST\]|<</?SYS>>|\blorem ipsum\b"
)
_ROLE = re.compile(r"(?im)^\s*(?:<\|im_start\|>)?\s*(system|user|customer|human|assistant|agent|bot)\s*:")
_ASKING, _ANSWERING = frozenset(("user", "customer", "human")), frozenset(("assistant", "agent", "bot"))
_RUN = re.compile(r"(\S)\1{9,}")
_ENDED = re.compile(r"[.!?…:;)\]}\"'»”’`*>\d]\s*$|[^\x00-\x7f]\s*$|https?://\S+\s*$")
#: Words of an answer from which on a sentence that does not end looks cut off.
_LONG_ANSWER = 40


class Quality:
    """One policy, ready to be applied."""

    def __init__(self, policy: QualityPolicy, *, answers: bool) -> None:
        self._policy = policy
        self._answers = answers

    def broken(self, text: str, target: str) -> tuple[QualityRule, ...]:
        """The rules that a row breaks, in the order of their definition. Of a label nothing is asked."""
        return tuple(self._found(text, target if self._answers else ""))

    def drops(self, broken: tuple[QualityRule, ...]) -> QualityRule | None:
        """The first broken rule that the policy drops rows for."""
        return next((rule for rule in broken if rule in self._policy.drop), None)

    def _found(self, text: str, answer: str) -> Iterator[QualityRule]:
        if max(len(text), len(answer)) > self._policy.max_characters:
            yield QualityRule.TOO_LONG
        if self._policy.languages and self._is_foreign(text, answer):
            yield QualityRule.WRONG_LANGUAGE
        if _repeats(text) or _repeats(answer):
            yield QualityRule.REPETITION
        if _has_markup(text) or _has_markup(answer):
            yield QualityRule.MARKUP
        if answer and _REFUSAL.search(answer):
            yield QualityRule.REFUSAL
        if _is_template(text) or _is_template(answer):
            yield QualityRule.TEMPLATE
        if ":" in text and _roles_out_of_order(text):
            yield QualityRule.ROLE_ORDER
        if answer and _is_cut(answer):
            yield QualityRule.TRUNCATED

    def _is_foreign(self, text: str, answer: str) -> bool:
        found = {language_of(part) for part in (text, answer) if part} - {None}
        return bool(found - set(self._policy.languages))


def _repeats(text: str) -> bool:
    """One character ten times over, or, in twenty words or more, a third of all runs of three words seen before (Rae et al. 2021)."""
    if len(text) < 10:
        return False
    if _RUN.search(text) and any(not set(run) <= set("-_=*.#~ ") for run in (match[0] for match in _RUN.finditer(text))):
        return True
    if len(text) < 60:
        return False
    words = text.split()
    if len(words) < 20:
        return False
    runs = Counter(zip(words, words[1:], words[2:], strict=False))
    return (len(words) - 2 - len(runs)) * 3 > len(words) - 2


def _has_markup(text: str) -> bool:
    return ("<" in text or "&" in text) and _MARKUP.search(text) is not None


def _is_template(text: str) -> bool:
    return any(mark in text for mark in "{<[$L") and _TEMPLATE.search(text) is not None


def _roles_out_of_order(text: str) -> bool:
    """A transcript in which the same side speaks twice in a row, an answer comes first, or a system message later than first."""
    roles = [role.casefold() for role in _ROLE.findall(text)]
    if len(roles) < 2:
        return False
    sides = ["ask" if role in _ASKING else "answer" if role in _ANSWERING else "system" for role in roles]
    turns = [side for side in sides if side != "system"]
    return "system" in sides[1:] or turns[:1] == ["answer"] or any(one == other for one, other in pairwise(turns))


def _is_cut(answer: str) -> bool:
    return len(answer.split()) >= _LONG_ANSWER and _ENDED.search(answer) is None
