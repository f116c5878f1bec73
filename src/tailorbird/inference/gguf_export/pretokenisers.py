"""Pre-tokenisers of llama.cpp, found by what a tokenizer does to a text.

llama.cpp holds the rules that cut a text into words in its code, and a file names them. A wrong name is silent: most texts give the same
tokens. So a name is given only where the tokenizer cuts a text, full of what these rules treat differently, just as the named rules do;
the vocabulary has no say in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from tokenizers import Regex, Tokenizer
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Sequence, Split

#: Contractions in both cases, runs of digits, letters of both cases together, marks, spaces and line ends before and after anything.
PROBE = (
    "I'm sure THEY'RE here, we'll SEE'em; don't! O'Neil's 'dbl' 'TIS it'D he'S\n"
    "1 12 123 1234 12345 1.5e10 3,141.59 x2y3 №7 ½ ² ٣٤٥٦ ४५६७ Ⅷ 二〇二六\r\n"
    "camelCase HTTPServer iPhone MacOSX snake_case kebab-case ALLCAPS ǅungla ʰaspir ªº\n\n\n"
    "tabs\tand\t\ttabs  two   three    four \n \n  \n   indented\r\n\r\n\tback /path//to/\n/x\r\n..\n!?\n  ...  \n"
    "a=b+c==d;f(x)[0]->y::z <tag attr='v'>&amp;</tag> #hash @name $9.99 50% ~/.x {\"k\": [1, 22, 333]}\n"
    "Straße naïve café cafe\u0301 Ångström İstanbul ǆ ﬁne Ἀθῆναι Москва שָׁלוֹם مَرْحَبًا नमस्ते\n"
    "สวัสดี ภาษาไทย 你好，世界！ 東京タワー ハﾊ 한국어 \u1112\u1161\u11ab\n"
    "🙂🙂 👩\u200d👩\u200d👧 🇩🇪 e\u20dd \u00a0nbsp\u00a0 \u2003em\u2003 \u200bzero\u200b \u3000wide\u3000\n"
    "\u2028line\u2029para \ufeff “quotes” ‘x’ – — … §1 €5 ©®\n"
    " leading 'Quoted' 'S ' s\n'S\n 1\n  2\n   \t trailing   "
)
#: Normalisers that change none of the usual texts; llama.cpp has none for byte-level tokenizers.
_HARMLESS = ("NFC",)
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r"\s*[\r\n]+|\s+(?!\S)|\s+"


class Rules(NamedTuple):
    """How a text is cut, and whether a word that is a token by itself is one before any merge is tried."""

    cut: PreTokenizer
    ignore_merges: bool = False


def _by(pattern: str) -> PreTokenizer:
    return Sequence([Split(Regex(pattern), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)])


def _words(digits: str) -> str:
    return rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_TAIL}"


#: The rules behind each name, as llama.cpp has them (``make llamacpp``). Its ``tekken`` and ``gpt-4o`` are not those of the tokenizers
#: they are named after: they cut before combining marks, so texts in Thai or Hindi become other tokens.
RULES: Mapping[str, Rules] = {
    "gpt-2": Rules(ByteLevel(add_prefix_space=False, use_regex=True)),
    "smollm": Rules(Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)])),
    "qwen2": Rules(_by(_words(r"\p{N}"))),
    "llama-bpe": Rules(_by(_words(r"\p{N}{1,3}")), ignore_merges=True),
    "dbrx": Rules(_by(_words(r"\p{N}{1,3}"))),
}


def fingerprint(rules: Rules) -> str:
    """SHA-256 (hexadecimal) of what rules do to ``PROBE``: the pieces it is cut into, and whether whole words come first."""
    pieces = [piece for piece, _ in rules.cut.pre_tokenize_str(PROBE)]
    return hashlib.sha256(json.dumps([pieces, rules.ignore_merges]).encode()).hexdigest()


@cache
def _names() -> dict[str, str]:
    return {fingerprint(rules): name for name, rules in RULES.items()}


def rules_of(content: Mapping[str, Any], tokenizer: Tokenizer) -> Rules | None:
    """The rules of a tokenizer with this ``content`` (``tokenizer.json``); None where it changes texts first, or cuts nothing."""
    normaliser = content["normalizer"]
    if tokenizer.pre_tokenizer is None or (normaliser is not None and normaliser["type"] not in _HARMLESS):
        return None
    return Rules(tokenizer.pre_tokenizer, bool(content["model"].get("ignore_merges")))


def pretokeniser(rules: Rules) -> str | None:
    """llama.cpp's name for rules; None where it has none."""
    return _names().get(fingerprint(rules))
