"""Sketch of a text as 64 small numbers: enough to see drift over many texts, too little to reconstruct a longer one.

Every word, and every pair of neighbouring words, stands for a vector of 64 random signs, drawn from a hash of the word; a text is the sum
of its vectors (signed feature hashing, Weinberger 2009, with the dense ±1 projection of Achlioptas 2003). The cosine of two sketches is
therefore, up to noise of about 1/8, the cosine of the counts of their words and pairs.

What it hides: case, punctuation, word order beyond neighbours, and in a message of ten words or more the words themselves: of the many
texts that fit 64 numbers, a search found none that was right (docs/design/releases.md).
What it does not hide: whether two texts are alike, and a *guess*. The hash has no key, so whoever suspects a text can sketch it and
compare, and the text of a few words can be found by trying likely words: a search found most messages of two to four words. A sketch is
therefore personal data where its text was: it is kept, shown and erased with the request it belongs to.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import unicodedata

import numpy as np
from numpy.typing import NDArray

from tailorbird.domain.errors import InvalidInput

#: Numbers in a sketch.
DIMENSIONS = 64

#: Characters of a text that are looked at, so that a huge message costs the gateway no more than about a millisecond.
_READ = 10_000
#: Scripts written without spaces (Thai to Khmer, kana, Han): there, a word is one character. Elsewhere it is a run of letters and digits.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


def sketch(text: str) -> str:
    """The sketch of ``text``: 64 int8 in standard base64, 88 characters. A text without a word has the sketch of 64 zeros.

    The same on every machine: words are integers from BLAKE2b, sums are exact, and one IEEE division and rounding makes the int8. Reads
    the first 10,000 characters.
    """
    words = _WORD.findall(unicodedata.normalize("NFKC", text[:_READ]).casefold())
    if not words:
        return base64.b64encode(bytes(DIMENSIONS)).decode()
    singles = np.frombuffer(b"".join([_hash(word) for word in words]), dtype="<u8")
    # A hash for each pair of neighbours, in which the order counts. The mixing is SplitMix64's (Steele 2014).
    mixed = singles[:-1] * np.uint64(0x9E3779B97F4A7C15) + singles[1:]
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    # The 64 bits of each hash as signs, int8[F, 64].
    hashes_F = np.concatenate([singles, (mixed ^ (mixed >> np.uint64(31)))])
    octets = hashes_F.astype("<u8").view(np.uint8).reshape(-1, 8)
    sums = (np.unpackbits(octets, axis=1).astype(np.int8) * np.int8(2) - np.int8(1)).sum(axis=0, dtype=np.int64)
    # The largest number becomes ±127: only the direction counts, and so the rounding costs it least.
    largest = max(1, int(np.abs(sums).max()))
    return base64.b64encode(np.rint(sums * 127 / largest).astype(np.int8).tobytes()).decode()


def vector(sketch: str) -> NDArray[np.float32]:
    """The vector a sketch stands for: float32[64], of length 1 (of length 0 for a text without words). Raises InvalidInput."""
    try:
        stored = base64.b64decode(sketch, validate=True)
    except (binascii.Error, ValueError):
        stored = b""
    if len(stored) != DIMENSIONS:
        raise InvalidInput("this is no sketch of a text", "give what sketch() returned: 88 characters of base64")
    numbers = np.frombuffer(stored, dtype=np.int8).astype(np.float64)
    return (numbers / max(1.0, float(np.sqrt(numbers @ numbers)))).astype(np.float32)


def _hash(word: str) -> bytes:
    return hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
