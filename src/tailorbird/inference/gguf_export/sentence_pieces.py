"""Tokenizers made from SentencePiece models with merges (Llama 2, Mistral), as llama.cpp's own ``llama`` tokenizer reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: What stands for a space within tokens.
_SPACE = "▁"
_SPACES: dict[str, Any] = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
_BEGUN: dict[str, Any] = {"type": "Prepend", "prepend": _SPACE}


def are_sentence_pieces(content: Mapping[str, Any]) -> bool:
    """True for a ``tokenizer.json`` of this kind: merges of characters, and bytes where there is no character."""
    model = content["model"]
    return bool(model["type"] == "BPE" and model.get("byte_fallback"))


def begins_with_space(content: Mapping[str, Any], *, first_is_special: bool) -> bool | None:
    """Whether a space is put before each stretch of text between special tokens; None where llama.cpp does neither.

    ``first_is_special``: every prompt begins with a special token.
    """
    normaliser, cut = content["normalizer"], content["pre_tokenizer"]
    steps = [] if normaliser is None else normaliser["normalizers"] if normaliser["type"] == "Sequence" else [normaliser]
    if cut is None:
        return {1: False, 2: True}.get(len(steps)) if steps in ([_SPACES], [_BEGUN, _SPACES]) else None
    if steps or cut["type"] != "Metaspace" or cut["replacement"] != _SPACE or cut.get("split", True):
        return None
    # ``first`` is the first stretch of a text alone, which then is none; ``always`` leaves out the space where there is one.
    return False if cut["prepend_scheme"] == "never" or (cut["prepend_scheme"] == "first" and first_is_special) else None


def scores_of(content: Mapping[str, Any]) -> dict[str, float] | None:
    """A score for each token that merges make, higher for what is merged earlier. llama.cpp merges any two neighbours whose union is a
    token, by the union's score: None where that is not what the list of merges says."""
    model = content["model"]
    apart = {token["content"] for token in content["added_tokens"]} | {f"<0x{byte:02X}>" for byte in range(256)}
    vocabulary = model["vocab"].keys() - apart
    made: dict[str, set[tuple[str, str]]] = {}
    order: list[str] = []
    for merge in model["merges"]:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        union = left + right
        if not order or order[-1] != union:
            order.append(union)
        made.setdefault(union, set()).add((left, right))
    if len(order) != len(made):
        return None  # merges of one token stand apart in the list
    for token in vocabulary:
        splits = ((token[:place], token[place:]) for place in range(1, len(token)))
        if made.get(token, set()) != {(left, right) for left, right in splits if left in vocabulary and right in vocabulary}:
            return None
    return {token: -float(place) for place, token in enumerate(order)}
