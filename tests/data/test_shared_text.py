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
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.data import BuiltSnapshot
from tailorbird.data.duplicates.shared_text import SAMPLE, sampled, shared_text
from tailorbird.domain.objective import TaskKind
from tailorbird.text.words import normalise

DRAW = Random(7)
WORDS = ["".join(DRAW.choices("abcdefghijklmnopqrstuvwxyz", k=DRAW.randint(3, 9))) for _ in range(3000)]
PROMPT = " ".join(DRAW.choices(WORDS, k=380))
FOOTER = " ".join(DRAW.choices(WORDS, k=60))


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


def test_near_copies_below_one_system_prompt_are_found(tmp_path: Path) -> None:
    copies = [
        {"chat": [turn | {"content": turn["content"].replace(WORDS[0], "x") + ("!" if turn["role"] == "user" else "")} for turn in chat(n)]}
        for n in range(20)
    ]
    built = of_chats(tmp_path, chats(range(200)) + copies)
    assert groups(built) == {1: 180, 2: 20}


def test_several_system_prompts_do_not_count_either(tmp_path: Path) -> None:
    rows = [row for place in range(20) for row in chats(range(place * 10, place * 10 + 10), f"{words(place + 500, 200)}")]
    assert groups(of_chats(tmp_path, rows)) == {1: 200}


def test_a_system_turn_that_is_the_matter_counts(tmp_path: Path) -> None:
    """A text to be summed up stands in it, and everybody asks for the same."""
    rows = [
        {
            "chat": [
                {"role": "system", "content": words(n, 120)},
                {"role": "user", "content": "Sum it up."},
                {"role": "assistant", "content": words(n)},
            ]
        }
        for n in range(120)
    ]
    assert groups(of_chats(tmp_path, rows)) == {1: 120}


def prefixed(text: str) -> str:
    return f"{PROMPT} {text}"


def suffixed(text: str) -> str:
    return f"{text}\n\n-- \n{FOOTER}"


def templated(text: str) -> str:
    return f'{words(90_001, 30)}:\n\n"{text}"\n\n{words(90_002, 40)}'


def form(text: str) -> str:
    return f"{words(90_003, 25)} {text[: len(text) // 2]} {words(90_004, 25)} {text[len(text) // 2 :]} {words(90_005, 25)}"


def unspaced(text: str) -> str:
    return "您是客户服务部门的助理请根据以下客户的留言判断其意图并且只回答一个类别名称不要解释" * 2 + text


SHAPES = [prefixed, suffixed, templated, form, unspaced]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_frame_does_not_count(tmp_path: Path, shape: Callable[[str], str]) -> None:
    rows = [{"text": shape(words(n, 9)), "label": "ab"[n % 2]} for n in range(200)]
    near = [{"text": shape(words(n, 9) + "s"), "label": "ab"[n % 2]} for n in range(10)]
    assert groups(frozen(tmp_path, rows)) == {1: 200}
    assert groups(frozen(tmp_path, rows + near)) == {1: 190, 2: 10}


def test_short_texts_in_a_frame_are_told_apart(tmp_path: Path) -> None:
    rows = [{"text": templated(WORDS[n]), "label": "ab"[n % 2]} for n in range(200)]
    assert groups(frozen(tmp_path, rows)) == {1: 200}


def test_three_frames_in_one_file(tmp_path: Path) -> None:
    shapes = (prefixed, suffixed, templated)
    rows = [{"text": shapes[n % 3](words(n, 12)), "label": "ab"[n % 2]} for n in range(240)]
    assert groups(frozen(tmp_path, rows)) == {1: 240}


def test_copies_with_a_slip_here_and_there_stay_copies_however_many_there_are(tmp_path: Path) -> None:
    """They share most words, and none of them is a frame: each differs elsewhere."""

    def slipped(number: int) -> str:
        said = words(77, 40).split()
        draw = Random(number)
        for place in draw.sample(range(40), 2):
            said[place] = f"{said[place][:-1]}{draw.choice('qxz')}{number}"
        return " ".join(said)

    rows = [{"text": slipped(n), "label": "ab"[n % 2]} for n in range(120)] + [
        {"text": words(n), "label": "ab"[n % 2]} for n in range(100, 180)
    ]
    built = frozen(tmp_path, rows)
    assert groups(built)[1] == 80
    assert sum(size * count for size, count in groups(built).items() if size > 100) == 120


def test_rows_whose_whole_text_is_shared_stay_copies(tmp_path: Path) -> None:
    said = "please call me back as soon as you possibly can about this"
    same = [{"text": said + "." * (n % 2), "label": f"{n // 2}"} for n in range(60)]
    other = [{"text": words(n), "label": f"{n % 30}"} for n in range(60)]
    built = frozen(tmp_path, same + other)
    assert {row.group for row in built.rows if row.text.startswith(said)} == {next(r.group for r in built.rows if r.text.startswith(said))}
    again = [{"text": said, "label": "a"}] * 150 + [{"text": words(n), "label": "ab"[n % 2]} for n in range(60)]
    assert frozen(tmp_path, again).manifest.duplicates == 149


def test_a_quoted_row_is_found_below_a_frame(tmp_path: Path) -> None:
    """One text holds most of another: the frame is no part of either."""
    rows = [{"text": prefixed(words(n, 40)), "label": "ab"[n % 2]} for n in range(100)]
    rows.append({"text": prefixed(f"{words(5000, 60)} {words(3, 40)} {words(6000, 60)}"), "label": "a"})
    assert groups(frozen(tmp_path, rows)) == {1: 99, 2: 1}


def test_the_sample_goes_by_ids_and_not_by_order() -> None:
    ids = [digest_bytes(str(number).encode()) for number in range(5 * SAMPLE)]
    found = {ids[place] for place in sampled(ids)}
    assert found == set(sorted(ids)[:SAMPLE]) == {ids[::-1][place] for place in sampled(ids[::-1])}
    assert sampled(ids[:10]) == sorted(range(10), key=ids.__getitem__)


def test_shared_text_holds_no_word() -> None:
    shared = shared_text([prefixed(words(n)) for n in range(50)])
    assert len(shared.runs) > 300
    text = prefixed(words(60))
    assert shared.told([text], [normalise(text)]) == [words(60)]
    assert json.dumps(PROMPT)[:40] not in repr(shared)
