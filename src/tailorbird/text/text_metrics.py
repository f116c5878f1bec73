"""Text overlap metrics: token F1, word precision, ROUGE-L, chrF."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from tailorbird.text.normalisation import normalise
from tailorbird.text.word_tokens import spaced_tokens, word_tokens


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
    common = _longest_common(given, wanted)
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


def _longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence, in O(len · len) time and one row of memory."""
    row = [0] * (len(other) + 1)
    for word in one:
        diagonal = 0
        for place, against in enumerate(other, 1):
            diagonal, row[place] = row[place], diagonal + 1 if word == against else max(row[place], row[place - 1])
    return row[-1]
