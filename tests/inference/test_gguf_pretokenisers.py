"""A tokenizer is given llama.cpp's name for its rules where it cuts as they do, and no name otherwise."""

from __future__ import annotations

import hashlib
import json

import pytest
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers

from support.gguf_models import merging_tokenizer
from tailorbird.domain.errors import InvalidInput
from tailorbird.inference.gguf_export import RULES, Rules, cut_probe, pretokeniser

#: What the rules do to the probe. Another hash is another rule, or another probe: then the check against a real llama.cpp is due.
FINGERPRINTS = {
    "dbrx": "1b31d5c386beb518",
    "gpt-2": "decf730c3145892f",
    "llama-bpe": "05729dfc0e263f6a",
    "qwen2": "1dd7586cdd3c747c",
    "smollm": "473ec309eab8fa4f",
}


def named(tokenizer: Tokenizer) -> str | None:
    try:
        return pretokeniser(json.loads(tokenizer.to_str()), tokenizer)
    except InvalidInput:
        return None


def fingerprint(rules: Rules) -> str:
    return hashlib.sha256(json.dumps([cut_probe(rules), rules.ignore_merges]).encode()).hexdigest()


@pytest.mark.parametrize("name", sorted(RULES))
def test_rules_are_known_by_what_they_do(name: str) -> None:
    assert named(merging_tokenizer(name)) == name
    assert fingerprint(RULES[name])[:16] == FINGERPRINTS[name]


def test_the_same_rules_in_other_words_have_the_same_name() -> None:
    """Digits one by one, then words: smollm's rules, written as one step fewer."""
    words = pre_tokenizers.Split(Regex(r"\p{N}"), "isolated")
    cut = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer = merging_tokenizer("smollm")
    tokenizer.pre_tokenizer = cut
    assert named(tokenizer) == "smollm"


@pytest.mark.parametrize("change", ["a space before everything", "digits in pairs", "lower case first", "nothing is cut"])
def test_rules_that_differ_in_one_respect_have_no_name(change: str) -> None:
    tokenizer = merging_tokenizer("qwen2")
    if change == "a space before everything":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)
    elif change == "digits in pairs":
        pairs = pre_tokenizers.Split(Regex(r"\p{N}{1,2}"), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pairs, RULES["gpt-2"].cut])
    elif change == "lower case first":
        tokenizer.normalizer = normalizers.Lowercase()
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    assert named(tokenizer) is None
