"""Tokenizer files of a base model's folder: the tokenizer itself, its named special tokens, and the declared end tokens."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from tailorbird.domain.errors import ModelInvalid

#: Special tokens that a configuration names, and that chat templates may write by that name.
_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_MOST_ID = 2**32


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer in ``folder``: nothing is cut or padded, and special tokens that the configuration names are special.

    Raises ModelInvalid when it cannot be read.
    """
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the library raises nothing narrower
        raise ModelInvalid(
            f"the tokenizer in {folder.name} cannot be read",
            "pull the base model again; a model without a tokenizer.json cannot be used",
            code="model_tokenizer",
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = False
    known = {token.content: token.special for token in tokenizer.get_added_tokens_decoder().values()}
    named = [name for name in dict.fromkeys(_marked_special(folder)) if tokenizer.token_to_id(name) is not None]
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in named if name not in known])
    unmarked = [name for name in named if known.get(name) is False]
    return with_flags(tokenizer, unmarked, special=True) if unmarked else tokenizer


def special_tokens(folder: Path) -> dict[str, str]:
    """The special tokens that the tokenizer's configuration names (``bos_token``, ``eos_token`` and so on). Raises ModelInvalid."""
    named = _read_json(folder / "special_tokens_map.json") | _read_json(folder / "tokenizer_config.json")
    texts = {name: value.get("content") if isinstance(value := named.get(name), dict) else value for name in _NAMED}
    return {name: text for name, text in texts.items() if isinstance(text, str) and text}


def _marked_special(folder: Path) -> list[str]:
    """Names of all tokens that the tokenizer's configuration marks as special. Raises ModelInvalid."""
    config = _read_json(folder / "special_tokens_map.json") | _read_json(folder / "tokenizer_config.json")
    further, added = config.get("additional_special_tokens"), config.get("added_tokens_decoder")
    listed = further if isinstance(further, list) else []
    marked = (
        [token for token in added.values() if isinstance(token, dict) and token.get("special") is True] if isinstance(added, dict) else []
    )
    names = [token.get("content") if isinstance(token, dict) else token for token in (*listed, *marked)]
    return [*special_tokens(folder).values(), *(name for name in names if isinstance(name, str) and name)]


def declared_ends(folder: Path) -> set[int]:
    """The end tokens in ``config.json`` and ``generation_config.json`` (``eos_token_id``). Raises ModelInvalid."""
    found: set[int] = set()
    for name in ("config.json", "generation_config.json"):
        value = _read_json(folder / name).get("eos_token_id")
        listed = value if isinstance(value, list) else [value]
        found.update(token for token in listed if type(token) is int and 0 <= token < _MOST_ID)
    return found


def with_flags(tokenizer: Tokenizer, names: Collection[str], **flags: bool) -> Tokenizer:
    """A copy of ``tokenizer`` in which the added tokens ``names`` have other ``flags``."""
    content = json.loads(tokenizer.to_str())
    for token in content["added_tokens"]:
        if token["content"] in names:
            token.update(flags)
    return Tokenizer.from_str(json.dumps(content))


def _read_json(path: Path) -> dict[str, Any]:
    """What a JSON file holds; empty where there is none. Raises ModelInvalid."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelInvalid(f"{path.parent.name} has no readable {path.name}", "pull the base model again", code="model_config") from error
    return content if isinstance(content, dict) else {}
