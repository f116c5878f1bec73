"""Words of a text in any script: normalisation, tokens, nearest known word, and metrics of overlap (token F1, ROUGE-L, chrF)."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache
from itertools import pairwise


def normalise(text: str) -> str:
    """NFKC, case-folded, white space squeezed: two texts that normalise alike are exact duplicates."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


#: Raised and lowered digits behind a digit, and a fraction behind one: NFKC would make one number of both.
_RAISED, _FRACTION = re.compile(r"(?<=\d)(?=[⁰¹²³⁴-⁻₀-₋])"), re.compile(r"(?<=\d)(?=[¼-¾⅐-⅞])")


def normalise_answer(text: str) -> str:
    """As ``normalise``, but what is raised, lowered or a fraction behind a digit stays apart from it: 10² is not 102, nor 1½ 11⁄2."""
    if text.isascii():
        return normalise(text)
    return normalise(_FRACTION.sub(" ", _RAISED.sub("^", text)))


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like ``word``, or None when nothing is near: for "did you mean"."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.55)
    return matches[0] if matches else None


#: Chinese characters, and signs that stand for one (as in 佐々木).
HAN = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
#: Scripts written without spaces (Thai to Khmer, kana, Han): there a word is one character. Their punctuation lies in the same ranges.
UNSPACED = f"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff{HAN}"
_SPACED = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")
_PLAIN = re.compile(r"\w+")
#: From the first combining mark on: a text without these has neither marks nor characters of a script without spaces.
_BEYOND = re.compile("[\u0300-\U0010ffff]")
#: What a word counts for, in quarters, and a character that is a token for itself.
WORD_WEIGHT, _HAN, _SOUND = 4, 2, 1
_ONE_UNSPACED, _ONE_HAN = re.compile(f"[{UNSPACED}]"), re.compile(f"[{HAN}]")


def holds_unspaced(text: str) -> bool:
    """True for a text with a character of a script without spaces."""
    return not text.isascii() and _ONE_UNSPACED.search(text) is not None


def word_weight(token: str) -> int:
    """What a token counts for, in quarters of a word: two Chinese characters are about one word, and four of kana, Thai, Lao, Burmese or
    Khmer."""
    if token.isascii() or not (_ONE_UNSPACED.match(token[0]) is not None):
        return WORD_WEIGHT
    return _HAN if (_ONE_HAN.match(token[0]) is not None) else _SOUND


def word_tokens(text: str) -> list[str]:
    """Runs of letters, digits and underscores, with the marks that belong to them (vowel signs of Hindi, say); each character of a script
    without spaces for itself. Case and forms of Unicode are left as they are."""
    if text.isascii() or _BEYOND.search(text) is None:
        return _PLAIN.findall(text)
    return _tokens().findall(text)


def paired_tokens(text: str) -> list[str]:
    """As ``word_tokens``, but neighbouring characters of a script without spaces in pairs, each with the next: by single ones everything
    would be found (as the CJK bigrams of Lucene). One that stands alone stays alone."""
    if text.isascii():
        return _PLAIN.findall(text)
    tokens: list[str] = []
    for run in _runs().findall(text):
        parts = _tokens().findall(run)
        tokens += [run] if len(parts) == 1 else [one + other for one, other in pairwise(parts)]
    return tokens


def spaced_tokens(text: str) -> list[str]:
    """What stands between spaces, marks included; each character of a script without spaces for itself."""
    return text.split() if text.isascii() else _SPACED.findall(text)


@cache
def _marks() -> str:
    """All combining marks of Unicode's first plane, as they stand in a class: ``\\w`` has none of them. Made where a text needs them."""
    return "".join(mark for mark in map(chr, range(0x300, 0x10000)) if unicodedata.category(mark)[0] == "M")


def _character() -> str:
    """A letter, digit or mark of a script without spaces: none of its punctuation, which is no word."""
    return rf"[{UNSPACED}](?<=[\w{_marks()}])[{_marks()}]*"


@cache
def _tokens() -> re.Pattern[str]:
    return re.compile(rf"{_character()}|(?:[^\W{UNSPACED}][{_marks()}]*)+")


@cache
def _runs() -> re.Pattern[str]:
    return re.compile(rf"(?:{_character()})+|(?:[^\W{UNSPACED}][{_marks()}]*)+")


def token_f1(answer: str, target: str) -> float:
    """F1 of the words that two texts share, counted as bags after ``normalise`` (Rajpurkar 2016, SQuAD), of scripts without spaces
    of the characters (as CMRC, Cui 2019); 1 when both are empty."""
    given, wanted = Counter(spaced_tokens(normalise(answer))), Counter(spaced_tokens(normalise(target)))
    if not given and not wanted:
        return 1.0
    return 2 * (given & wanted).total() / (given.total() + wanted.total())


def word_precision(answer: str, source: str) -> float:
    """The share of the answer's words (``word_tokens``) that stand in ``source``, counted as bags after ``normalise``; 1 for an answer
    without words."""
    given, found = Counter(word_tokens(normalise(answer))), Counter(word_tokens(normalise(source)))
    return (given & found).total() / given.total() if given else 1.0


def rouge_l(answer: str, target: str) -> float:
    """ROUGE-L (Lin 2004): F1 of the longest common subsequence of words.

    Where both texts have ASCII letters alone, a word is a run of ASCII letters and digits in lower case, as in rouge-score 0.1.2 without
    stemming. Other letters are no letters to rouge-score (of a Russian text only the numbers are left), so that texts with such ones are
    compared by ``word_tokens`` after ``normalise``. Texts without any word are compared by what stands between spaces."""
    if any(map(_is_beyond_ascii, (answer, target))):
        given, wanted = word_tokens(normalise(answer)), word_tokens(normalise(target))
    else:
        given, wanted = _ascii_words(answer), _ascii_words(target)
    if not given and not wanted:
        given, wanted = normalise(answer).split(), normalise(target).split()
    if not given or not wanted:
        return float(given == wanted)
    # The length of the longest common subsequence, in O(len · len) time and one row of memory.
    row = [0] * (len(wanted) + 1)
    for word in given:
        diagonal = 0
        for place, against in enumerate(wanted, 1):
            diagonal, row[place] = row[place], diagonal + 1 if word == against else max(row[place], row[place - 1])
    common = row[-1]
    return 2 * common / (len(given) + len(wanted))


def chrf(answer: str, target: str, order: int = 6, beta: float = 2.0) -> float:
    """chrF2 (Popović 2015) of one sentence in [0, 1]: F-beta of precision and recall averaged over character n-grams up to ``order``, white
    space left out, as sacrebleu 2.5 computes it (orders that either text is too short for do not count)."""
    given, wanted = "".join(answer.split()), "".join(target.split())
    if not given or not wanted:
        return float(given == wanted)
    precisions, recalls = [], []
    for n in range(1, order + 1):
        ours, theirs = _grams(given, n), _grams(wanted, n)
        if ours and theirs:
            shared = (ours & theirs).total()
            precisions.append(shared / ours.total())
            recalls.append(shared / theirs.total())
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    weight = beta * beta
    return (1 + weight) * precision * recall / (weight * precision + recall) if precision + recall else 0.0


def _is_beyond_ascii(text: str) -> bool:
    """Whether a letter or a digit of ``text`` is none of ASCII."""
    return not text.isascii() and any(character.isalnum() and not character.isascii() for character in text)


def _ascii_words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def _grams(text: str, n: int) -> Counter[str]:
    return Counter(text[start : start + n] for start in range(len(text) - n + 1))
