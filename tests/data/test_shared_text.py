"""Rows are alike by what differs: what most of them share does not count, whatever the shape of a row."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from support.data import build, make_objective
from tailorbird.data import BuiltSnapshot
from tailorbird.data.duplicates.shared_text import shared_text
from tailorbird.domain.objective import TaskKind
from tailorbird.text.words import normalise

DRAW = Random(7)
WORDS = ["".join(DRAW.choices("abcdefghijklmnopqrstuvwxyz", k=DRAW.randint(3, 9))) for _ in range(3000)]
PROMPT = " ".join(DRAW.choices(WORDS, k=380))


def words(number: int, count: int = 14) -> str:
    return " ".join(Random(number).choices(WORDS, k=count))


def chat(number: int, system: str = PROMPT) -> list[dict[str, str]]:
    said = [words(number), words(number + 10_000), words(number + 20_000), words(number + 30_000)]
    turns = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(said)]
    return [{"role": "system", "content": system}, *turns]


def chats(numbers: range, system: str = PROMPT) -> list[dict[str, Any]]:
    return [{"chat": chat(number, system)} for number in numbers]


def frozen(folder: Path, rows: list[dict[str, Any]], kind: TaskKind = TaskKind.CLASSIFY, **source: Any) -> BuiltSnapshot:
    (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return build(make_objective({"path": "d.jsonl", **source}, kind=kind), folder)


def of_chats(folder: Path, rows: list[dict[str, Any]]) -> BuiltSnapshot:
    return frozen(folder, rows, TaskKind.GENERATE, messages="chat")


def groups(built: BuiltSnapshot) -> Counter[int]:
    """How many groups there are of each size."""
    return Counter(Counter(row.group for row in built.rows).values())


def test_chats_with_one_long_system_prompt_are_not_alike(tmp_path: Path) -> None:
    built = of_chats(tmp_path, chats(range(200)))
    assert built.manifest.near_duplicate_groups == 0
    assert min(built.manifest.counts.dev, built.manifest.counts.test) > 20


def prefixed(text: str) -> str:
    return f"{PROMPT} {text}"


def templated(text: str) -> str:
    return f'{words(90_001, 30)}:\n\n"{text}"\n\n{words(90_002, 40)}'


def unspaced(text: str) -> str:
    return "您是客户服务部门的助理请根据以下客户的留言判断其意图并且只回答一个类别名称不要解释" * 2 + text


SHAPES = [prefixed, templated, unspaced]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_frame_does_not_count(tmp_path: Path, shape: Callable[[str], str]) -> None:
    rows = [{"text": shape(words(n, 9)), "label": "ab"[n % 2]} for n in range(200)]
    near = [{"text": shape(words(n, 9) + "s"), "label": "ab"[n % 2]} for n in range(10)]
    assert groups(frozen(tmp_path, rows)) == {1: 200}
    assert groups(frozen(tmp_path, rows + near)) == {1: 190, 2: 10}


def test_shared_text_holds_no_word() -> None:
    shared = shared_text([prefixed(words(n)) for n in range(50)])
    assert len(shared.runs) > 300
    text = prefixed(words(60))
    assert shared.told([text], [normalise(text)]) == [words(60)]
    assert json.dumps(PROMPT)[:40] not in repr(shared)
