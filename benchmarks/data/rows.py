"""Rows for the benchmarks: Banking77 as it is, rows made from its words, and what is planted among them.

In: a seed. Out: texts, labels, planted pairs. Must not know: what is measured.

Its place is read from TAILORBIRD_TEST_DATA, as in the tests.
"""

from __future__ import annotations

import csv
import os
import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("TAILORBIRD_TEST_DATA", ROOT.parent / "shared" / "data"))
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def banking77(name: str = "train") -> list[tuple[str, str]]:
    """(text, label) of each row."""
    with (DATA / "banking77" / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        return [(row["text"], row["category"]) for row in csv.DictReader(stream)]


def typos(text: str, drawn: random.Random, most: float = 0.15) -> str:
    """``text`` after one to ``most`` times its length edits: letters put in, taken out, changed, or swapped with the next (two edits)."""
    letters, left = list(text), drawn.randint(1, max(1, int(most * len(text))))
    while left > 0:
        place, kind = drawn.randrange(len(letters)), drawn.choice(["insert", "delete", "change", "swap"])
        if kind == "insert":
            letters.insert(place, drawn.choice(LETTERS))
        elif kind == "delete" and len(letters) > 4:
            del letters[place]
        elif kind == "change":
            letters[place] = drawn.choice(LETTERS)
        elif kind == "swap" and left > 1 and place + 1 < len(letters):
            letters[place], letters[place + 1] = letters[place + 1], letters[place]
            left -= 1
        left -= 1
    return "".join(letters)


def recased(text: str, drawn: random.Random) -> str:
    return drawn.choice((text.upper(), text.title(), text.swapcase(), f"  {text.capitalize()} "))


def reordered(text: str, drawn: random.Random) -> str:
    words = text.split()
    drawn.shuffle(words)
    return " ".join(words)


def both(text: str, drawn: random.Random) -> str:
    return recased(reordered(typos(text, drawn, 0.05), drawn), drawn)


PLANTED = {"typos": typos, "case": recased, "word order": reordered, "case, order and typos": both}


def half_of_two(text: str, other: str, drawn: random.Random) -> str:  # noqa: ARG001 — all take the same
    """The first half of one message and the second half of another: a near-miss."""
    one, two = text.split(), other.split()
    return " ".join([*one[: max(1, len(one) // 2)], *two[len(two) // 2 :]])


def other_words(text: str, other: str, drawn: random.Random) -> str:
    """Two in five words taken from another message: a near-miss."""
    words, others = text.split(), other.split()
    for place in drawn.sample(range(len(words)), max(1, -(-2 * len(words) // 5))):
        words[place] = drawn.choice(others)
    return " ".join(words)


def longer(text: str, other: str, drawn: random.Random) -> str:  # noqa: ARG001 — all take the same
    """The message with half as much again from another: a near-miss."""
    words, others = text.split(), other.split()
    return " ".join([*words, *(others * 3)[: max(3, len(words) * 2 // 3)]])


MISSES = {"half of two": half_of_two, "other words": other_words, "longer": longer}


class Chain:
    """Makes new rows like those it has read: each word drawn among those that followed the two before it, or now and then any word."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._after: dict[tuple[str, str], list[str]] = {}
        self._words: list[str] = []
        for text in texts:
            words = ["", "", *text.split(), "\n"]
            self._words += words[2:-1]
            for (one, two), word in zip(pairwise(words), words[2:], strict=False):
                self._after.setdefault((one, two), []).append(word)

    def row(self, drawn: random.Random) -> str:
        one, two, words = "", "", list[str]()
        while len(words) < 40:
            word = drawn.choice(self._after.get((one, two), ["\n"]))
            if word == "\n":
                break
            if drawn.random() < 0.15:
                word = drawn.choice(self._words)
            words.append(word)
            one, two = two, word
        return " ".join(words) if len(words) > 3 else self.row(drawn)


def made_rows(count: int, seed: int) -> list[tuple[str, str]]:
    """``count`` short rows: most are made new, 3 % are copies, 5 % near-copies of earlier ones; one in ten holds a number, a card, a
    phone or
    an address."""
    drawn, rows = random.Random(seed), banking77()
    chain, labels, made = Chain([text for text, _ in rows]), sorted({label for _, label in rows}), list[tuple[str, str]]()
    for number in range(count):
        luck = drawn.random()
        if made and luck < 0.03:
            made.append(drawn.choice(made))
        elif made and luck < 0.08:
            text, label = drawn.choice(made)
            made.append((typos(text, drawn, 0.1), label))
        else:
            made.append((_with_number(chain.row(drawn), number, drawn), drawn.choice(labels)))
    return made


def _with_number(text: str, number: int, drawn: random.Random) -> str:
    if drawn.random() > 0.1:
        return text
    digits = "".join(drawn.choice("0123456789") for _ in range(16))
    forms = (
        f"order {digits[:9]}",
        f"call me on +49 30 {digits[:7]}",
        f"card {digits}",
        f"write to user{number}@example.org",
        f"paid {digits[:3]} EUR",
    )
    return f"{text} {drawn.choice(forms)}"
