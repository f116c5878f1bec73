"""Boilerplate that most rows share (system prompt, template, disclaimer, signature), removed before texts are compared.

Two rows with one long prompt are no near-duplicates for it. What is shared is found in a sample: the rows with the smallest ids, which does
not depend on their order, and changes little as rows are added. It is a run of six words that stands in a fifth of the sample, or a system
turn that opens several of its conversations. It is taken out

- of a conversation that opens with such a turn;
- where what is left could be a message: five words, four a piece, and enough of them words that what is shared does not have. A text of
  which only a word here and there differs from others keeps all;
- where less is left, if what was taken out is a frame: the same, word for word, as in half of all rows.

Otherwise, and where nothing would be left, the text is compared whole: rows whose whole text is shared are as alike as ever.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from tailorbird.chat.conversations import MARK, unfold_turns
from tailorbird.chat.tool_calls import texts_of
from tailorbird.domain.prompt import Message
from tailorbird.text.words import normalise

#: The version of what follows.
SCHEME = "shared-6-words/1"

#: Rows of the sample, and the fewest of which anything is said to be shared.
SAMPLE, FEWEST = 2048, 20
#: Words in a run.
RUN = 6
#: One in so many rows of the sample has a run that is shared; one in so many a frame.
SHARED, FRAMED = 5, 2
#: One in so many rows opens with a system turn that is shared, and at least so many do.
OPENED, FEWEST_OPENED = 200, 5
#: What is left counts without a frame from so many words on, and from so many a piece; so many of them, and such a share, are not among
#: the words of what is shared (around a slip in a copy they all are, but the slip).
ENOUGH, ENOUGH_A_PIECE, OWN, OWN_SHARE = 5, 4, 3, 0.4

#: Scripts without spaces (Thai to Khmer, kana, Han): there each letter stands for a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
#: Texts, and characters of texts, whose words are held at once.
_BLOCK, _BLOCK_CHARACTERS = 4096, 1 << 20
#: Of a longer text of the sample its beginning and its end are looked at, each of so many characters: there frames stand.
_ENDS = 20_000
_MIX = np.uint64(0x9E3779B97F4A7C15)

Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class SharedText:
    """Sorted hashes of the runs that a fifth of the sample has, of the words in these, of the runs that half of it has, of frames, and of
    system turns."""

    runs: Hashes
    words: Hashes
    most: Hashes
    frames: Hashes
    openings: Hashes

    def told(self, texts: Sequence[str], folded: Sequence[str]) -> list[str]:
        """What tells each text from others, normalised; ``folded`` are the texts normalised."""
        plain = [self._plain(text, whole) if text.startswith(MARK) else whole for text, whole in zip(texts, folded, strict=True)]
        return list(self._without(plain)) if len(self.runs) else plain

    def _plain(self, text: str, folded: str) -> str:
        """The turns of a conversation, one after the other, without a system turn that is shared."""
        opening, said = _parted(text)
        if not said:
            return folded
        return said if not opening or bool(_among(np.array([_hashed(opening)], np.uint64), self.openings)[0]) else f"{opening} {said}"

    def _without(self, texts: Sequence[str]) -> Iterator[str]:
        known: dict[str, int] = {}
        for block in _blocks(texts):
            words = _Words(block, known)
            shared_W, most_W = words.covered(_among(words.runs_W, self.runs)), words.covered(_among(words.runs_W, self.most))
            for place, text in enumerate(block):
                inside = words.of(place)
                yield self._rest(text, words, inside, shared_W[inside], most_W[inside]) if shared_W[inside].any() else text

    def _rest(self, text: str, words: _Words, inside: slice, shared_W: NDArray[np.bool_], most_W: NDArray[np.bool_]) -> str:
        pieces = words.pieces(inside, ~shared_W)
        if not pieces:
            return text
        left = words.words_W[inside][~shared_W]
        own = int((~_among(left, self.words)).sum())
        if len(left) < max(ENOUGH, ENOUGH_A_PIECE * len(pieces)) or own < max(OWN, OWN_SHARE * len(left)):
            framed = _frame(words.words_W[inside], most_W)
            if framed is None or not _among(np.array([framed], np.uint64), self.frames)[0]:
                return text
            pieces = words.pieces(inside, ~most_W)
        rest = " ".join(text[words.begins_W[start] : words.ends_W[end - 1]] for start, end in pieces)
        return rest if any(map(str.isalnum, rest)) else text


def sampled(ids: Sequence[str]) -> list[int]:
    """The places of the rows that are looked at: those with the smallest ids, which are digests in hexadecimal digits."""
    share = 2 * SAMPLE / max(1, len(ids))
    bound = "sha256:" + f"{min(2**32 - 1, int(share * 2**32)):08x}"
    near = range(len(ids)) if share >= 1 else [place for place, id_ in enumerate(ids) if id_ < bound]
    if share < 1 and len(near) < SAMPLE:
        near = range(len(ids))
    return sorted(near, key=ids.__getitem__)[:SAMPLE]


def shared_text(texts: Sequence[str]) -> SharedText:
    """What the rows of a sample share."""
    parted = [_parted(text) if text.startswith(MARK) else ("", normalise(text)) for text in texts]
    size = len(texts)
    openings = _often((_hashed(opening) for opening, _ in parted if opening), max(FEWEST_OPENED, size / OPENED))
    plain = [said if not opening or _hashed(opening) in openings else f"{opening} {said}" for opening, said in parted]
    if size < FEWEST:
        nothing = _sorted(())
        return SharedText(nothing, nothing, nothing, nothing, _sorted(openings))
    plain = [text if len(text) <= 2 * _ENDS else f"{text[:_ENDS]} {text[-_ENDS:]}" for text in plain]
    runs, counts = np.unique(np.concatenate(list(_runs_of(plain))), return_counts=True)
    shared, most = runs[counts >= max(FEWEST, size / SHARED)], runs[counts >= max(FEWEST, size / FRAMED)]
    found, known = Counter[int](), list[Hashes]([_sorted(())])
    for block in _blocks(plain) if len(shared) else ():
        words = _Words(block, {})
        shared_W, most_W = words.covered(_among(words.runs_W, shared)), words.covered(_among(words.runs_W, most))
        known.append(np.unique(words.words_W[shared_W]))
        framed = [words.of(place) for place in range(len(block)) if not shared_W[words.of(place)].all()]
        found.update(_frame(words.words_W[inside], most_W[inside]) or 0 for inside in framed)
    frames = {frame for frame, count in found.items() if frame and count >= max(FEWEST, size / FRAMED)}
    return SharedText(shared, np.unique(np.concatenate(known)), most, _sorted(frames), _sorted(openings))


def _blocks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """``texts`` in stretches whose words fit into little memory."""
    start = characters = 0
    for place, text in enumerate(texts):
        if place > start and (characters + len(text) > _BLOCK_CHARACTERS or place - start >= _BLOCK):
            yield texts[start:place]
            start, characters = place, 0
        characters += len(text)
    yield texts[start:]


def _runs_of(texts: Sequence[str]) -> Iterator[Hashes]:
    """The distinct runs of each text."""
    for block in _blocks(texts):
        words = _Words(block, {})
        for inside in map(words.of, range(len(block))):
            yield np.unique(words.runs_W[inside][words.whole_W[inside]])


class _Words:
    """The words of texts, one after the other: hashes, where they begin and end, and a hash of the run that begins with each; ``whole_W``
    is False where a run would reach into the next text."""

    def __init__(self, texts: Sequence[str], known: dict[str, int]) -> None:
        hashes, self.begins_W, self.ends_W, starts = array("Q"), array("q"), array("q"), [0]
        for text in texts:
            for match in _WORD.finditer(text):
                begin, end = match.span()
                hashes.append(_known(text[begin:end], known))
                self.begins_W.append(begin)
                self.ends_W.append(end)
            starts.append(len(hashes))
        self._starts, size = np.array(starts), len(hashes)
        lengths = np.diff(self._starts)
        self.words_W = np.frombuffer(hashes, np.uint64) if size else np.zeros(0, np.uint64)
        self.runs_W = np.zeros(size, np.uint64)
        self.whole_W = np.zeros(size, np.bool_)
        if size >= RUN:
            runs = np.zeros(size - RUN + 1, np.uint64)
            for step in range(RUN):
                runs = (runs ^ self.words_W[step : step + len(runs)]) * _MIX
                runs ^= runs >> np.uint64(29)
            self.runs_W[: len(runs)] = runs
            holders = np.repeat(np.arange(len(texts)), lengths)
            self.whole_W[: len(runs)] = holders[: len(runs)] == holders[RUN - 1 :]

    def of(self, place: int) -> slice:
        """Where the words of the text at ``place`` stand."""
        return slice(int(self._starts[place]), int(self._starts[place + 1]))

    def covered(self, shared_W: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Words that stand in one of the runs that are ``shared_W``."""
        begun = np.flatnonzero(shared_W & self.whole_W)
        changes = np.zeros(len(self.words_W) + RUN, np.int32)
        np.add.at(changes, begun, 1)
        np.add.at(changes, begun + RUN, -1)
        return np.asarray(np.cumsum(changes)[: len(self.words_W)] > 0)

    def pieces(self, inside: slice, kept_W: NDArray[np.bool_]) -> list[tuple[int, int]]:
        """Where stretches of words that are kept begin and end."""
        edges = np.flatnonzero(np.diff(np.concatenate([[False], kept_W, [False]]).astype(np.int8))) + inside.start
        return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _parted(text: str) -> tuple[str, str]:
    """What opens a conversation as its system turns, and what is said then; both normalised. Another text opens with nothing."""
    turns = unfold_turns(text)
    if turns[0].content == text:
        return "", normalise(text)
    opening = " ".join(turn.content for turn in turns if turn.role == "system")
    said = (part for turn in turns if turn.role != "system" for part in _said(turn))
    return normalise(opening), normalise(" ".join(said))


def _said(turn: Message) -> Iterable[str]:
    """What a turn says and calls; what it offers is a frame."""
    return texts_of(turn.model_copy(update={"tools": ""})) if turn.tool_calls else (turn.content,)


def _frame(words_W: Hashes, most_W: NDArray[np.bool_]) -> int | None:
    """A hash of the words that are shared; None where none are, or all are."""
    if not most_W.any() or most_W.all():
        return None
    return int.from_bytes(blake2b(words_W[most_W].tobytes(), digest_size=8).digest(), "little")


def _among(hashes: Hashes, known: Hashes) -> NDArray[np.bool_]:
    if not len(known):
        return np.zeros(len(hashes), np.bool_)
    return np.asarray(known[np.minimum(np.searchsorted(known, hashes), len(known) - 1)] == hashes)


def _often(found: Iterator[int] | Sequence[int], fewest: float) -> set[int]:
    return {each for each, count in Counter(found).items() if count >= fewest}


def _sorted(found: Sequence[int] | set[int]) -> Hashes:
    return np.array(sorted(found), dtype=np.uint64)


def _known(word: str, known: dict[str, int]) -> int:
    number = known.get(word)
    if number is None:
        number = known[word] = _hashed(word)
    return number


def _hashed(text: str) -> int:
    """A number for a text, the same for ever."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
