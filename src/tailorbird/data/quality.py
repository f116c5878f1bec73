"""Quality rules for rows, and language detection from script and function words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

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


class QualityChecker:
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
        if answer and (len(answer.split()) >= _LONG_ANSWER and _ENDED.search(answer) is None):
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


#: Small words that stand in few of these languages at once.
_SMALL_WORDS = {
    "en": "the and is are was were you your i my to of in it that this with for have has not can how what do does please would when on be",
    "de": "der die das und ist sind nicht ich sie wir mein meine ein eine mit für auf zu den dem wie was kann bitte habe wurde noch auch",
    "fr": "le la les des et est sont je vous nous mon ma une un dans pour avec pas ne que qui sur au aux ce cette comment votre été",
    "es": "el la los las y es son yo mi una un en para con no que por del al como puedo su se está tengo cuando pero más este esta",
    "it": "il lo la gli e è sono io mio mia una un in per con non che di del della come posso si ho quando ma più questo questa",
    "nl": "de het een en is zijn niet ik mijn u wij met voor op van naar hoe wat kan heb heeft werd nog ook maar deze dit bij",
    "pt": "o os as e é são eu meu minha uma um em para com não que por do da como posso se está tenho quando mas mais este esta",
    "pl": "i jest są nie się na w z do to co jak czy mam mój moja dla od przez ale już tylko proszę można było być",
    "sv": "och är inte jag min mitt en ett det den som för med på till av hur vad kan har var men också detta denna från",
}
_WORDS = {language: frozenset(words.split()) for language, words in _SMALL_WORDS.items()}
_SCRIPTS = (
    ("ja", re.compile("[\u3040-\u30ff]")),
    ("zh", re.compile("[\u4e00-\u9fff]")),
    ("ko", re.compile("[\uac00-\ud7af]")),
    ("ru", re.compile("[\u0400-\u04ff]")),
    ("ar", re.compile("[\u0600-\u06ff]")),
    ("he", re.compile("[\u0590-\u05ff]")),
    ("el", re.compile("[\u0370-\u03ff]")),
    ("hi", re.compile("[\u0900-\u097f]")),
    ("th", re.compile("[\u0e00-\u0e7f]")),
)
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")

#: Different small words that must be seen, and how many more than of the next language.
SEEN, LEAD = 3, 2


def language_of(text: str) -> str | None:
    """The language, or None when it cannot be told.

    A text of a few words often says nothing of its language; then the answer is None, and no rule is broken.
    """
    if not text.isascii():
        letters = sum(map(str.isalpha, text))
        for language, script in _SCRIPTS:
            if len(script.findall(text)) * 3 > letters:
                return language
    words = frozenset(_WORD.findall(text.casefold()))
    scores = sorted(((len(words & small), language) for language, small in _WORDS.items()), reverse=True)
    (best, language), (second, _) = scores[0], scores[1]
    return language if best >= SEEN and best >= second + LEAD else None
