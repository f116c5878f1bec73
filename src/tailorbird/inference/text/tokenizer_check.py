"""Safety check of a foreign tokenizer's patterns before long texts reach it.

Its patterns are matched by an engine that goes back and tries again (Oniguruma), within the process that trains or serves. So one that
repeats a group without bound, refers back or calls itself is refused; none of those in use (GPT-2, Llama 3, Qwen, DeepSeek, o200k) does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tailorbird.domain.errors import ModelInvalid
from tailorbird.domain.prompt import Message
from tailorbird.text.chat_templates import render_here
from tailorbird.text.tokenizer_files import read_tokenizer, special_tokens

#: Repetitions without bound that may stand in one pattern side by side, and characters of one.
_LONGEST = 4000
_ESCAPED = re.compile(r"\\.", re.DOTALL)
_BACK = re.compile(r"\\[1-9]|\\[kg][<']|\(\?(?:R|P[=>]|&|\()")
_UNBOUNDED = re.compile(r"[*+]|\{\d*,\}")
#: Texts on which a pattern that is slow shows it.
_TRIALS = (" ", "a", "é", "1", "!", "\n", "\t ", "a ", "a1", "'s", "漢", "\u0300", "\U0001f600", "Aa", "a!")
_TRIAL_LENGTH = 20_000


def check_tokenizer(folder: Path) -> None:
    """Reads texts with the tokenizer in ``folder``, and lays out a conversation by its template. Raises ModelInvalid."""
    path = folder / "tokenizer.json"
    if path.is_file():
        for pattern in _patterns(json.loads(path.read_text(encoding="utf-8"))):
            if may_run_away(pattern):
                raise ModelInvalid(
                    f"the tokenizer of {folder.name} has a pattern that can take for ever",
                    "use a tokenizer whose patterns repeat no group without bound and refer to no group",
                    code="model_tokenizer",
                )
    tokenizer = read_tokenizer(folder)
    for trial in _TRIALS:
        tokenizer.encode(trial * (_TRIAL_LENGTH // len(trial)), add_special_tokens=False)
    template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    render_here(template, [Message(role="user", content="?"), Message(role="assistant", content="!")], special_tokens(folder))


def _patterns(content: Any) -> Iterator[str]:
    """Every regular expression in the description of a tokenizer."""
    if isinstance(content, dict):
        if isinstance(content.get("Regex"), str):
            yield content["Regex"]
        for name in ("normalizer", "pre_tokenizer", "post_processor", "decoder", "pattern", "normalizers", "pretokenizers", "decoders"):
            yield from _patterns(content.get(name))
    elif isinstance(content, list):
        for each in content:
            yield from _patterns(each)


def may_run_away(pattern: str) -> bool:
    """True where matching ``pattern`` could take time that grows faster than a small power of the text's length."""
    if len(pattern) > _LONGEST or _BACK.search(pattern):
        return True
    plain = _without_classes(_ESCAPED.sub("e", pattern))
    opened: list[int] = []
    for place, mark in enumerate(plain):
        if mark == "(":
            opened.append(place)
        elif mark == ")":
            if not opened:
                return True
            inside = plain[opened.pop() : place]
            if _UNBOUNDED.match(plain, place + 1) and re.search(r"[*+?{|]", inside[1:].removeprefix("?:")):
                return True
    return bool(opened)


def _without_classes(pattern: str) -> str:
    """The pattern with one letter for each class, classes within it included."""
    parts: list[str] = []
    depth = 0
    for place, mark in enumerate(pattern):
        if mark == "[":
            depth += 1
        elif mark == "]" and depth and pattern[place - 1 : place] != "[" and pattern[place - 2 : place] != "[^":
            depth -= 1
            if not depth:
                parts.append("c")
        elif not depth:
            parts.append(mark)
    return "".join(parts)
