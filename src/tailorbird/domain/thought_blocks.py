"""Reasoning before an answer: its form in rows, apart from the answer."""

from __future__ import annotations

_BEGIN, _END = "<think>", "</think>"


def split_reasoning(text: str) -> tuple[str, str]:
    """(reasoning, answer) of what an assistant said; a text that does not begin with a block of reasoning is an answer."""
    said = text.lstrip()
    if not said.startswith(_BEGIN) or _END not in said:
        return "", text
    reasoning, _, answer = said.removeprefix(_BEGIN).partition(_END)
    return reasoning.strip("\n"), answer.lstrip("\n")


def ends_within(reasoning: str) -> bool:
    """True where reasoning holds the mark that ends it, so that ``split_reasoning`` would take the rest for the answer."""
    return _END in reasoning


def written_answer(text: str) -> str:
    """What a model of somebody else wrote after its reasoning, whose begin it may not have written; empty where it ends within it."""
    if _END in text:
        return text.rpartition(_END)[2]
    return "" if text.lstrip().startswith(_BEGIN) else text


def with_reasoning(reasoning: str, answer: str) -> str:
    """The text that ``split_reasoning`` takes apart again."""
    return f"{_BEGIN}\n{reasoning}\n{_END}\n\n{answer}" if reasoning.strip() else answer


def answer_of(text: str) -> str:
    """The answer alone."""
    return split_reasoning(text)[1]
