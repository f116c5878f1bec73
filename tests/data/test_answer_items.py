"""Items of conversations: each answer by itself, within its conversation's split and group, and none that was learned word for word."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.data import build, make_objective
from tailorbird.chat.conversations import unfold_turns
from tailorbird.data import BuiltSnapshot, items_of_split
from tailorbird.domain.dataset import Row, Split
from tailorbird.domain.objective import TaskKind

#: Conversations that share no words, so that none is like another.
WORDS = [" ".join(f"{chr(97 + place % 26)}{number * 7919 % 9973}" for place in range(6)) for number in range(80)]


def talk(*said: str) -> list[dict[str, Any]]:
    return [{"role": "assistant" if place % 2 else "user", "content": text} for place, text in enumerate(said)]


def built(folder: Path, talks: Sequence[list[dict[str, Any]]], **task: Any) -> BuiltSnapshot:
    (folder / "d.jsonl").write_text("".join(json.dumps({"chat": each}) + "\n" for each in talks))
    objective = make_objective({"path": "d.jsonl", "messages": "chat"}, kind=TaskKind.GENERATE)
    objective = objective.model_copy(update={"task": objective.task.model_copy(update=task)})
    return build(objective, folder)


def items(snapshot: BuiltSnapshot, split: Split) -> tuple[Row, ...]:
    rows = {each: [row for row in snapshot.rows if row.split is each] for each in Split}
    return items_of_split(snapshot.manifest, rows.__getitem__, split)


def test_each_answer_is_an_item_asked_as_it_is_served(tmp_path: Path) -> None:
    snapshot = built(tmp_path, [talk(f"ask {words}", f"what {words}", f"more {words}", f"done {words}") for words in WORDS], learn="all")
    assert snapshot.manifest.answers == "all"
    for split in Split:
        rows = [row for row in snapshot.rows if row.split is split]
        found = items(snapshot, split)
        assert len(found) == 2 * len(rows)
        for row, first, last in zip(rows, found[::2], found[1::2], strict=True):
            assert last == row
            turns = unfold_turns(row.text)
            assert (first.text, first.target) == (turns[0].content, turns[1].content)
            assert (first.group, first.split, first.provenance) == (row.group, row.split, row.provenance)
    ids = [item.id for split in Split for item in items(snapshot, split)]
    assert len(ids) == len(set(ids))


def test_what_is_learned_word_for_word_is_not_tested(tmp_path: Path) -> None:
    """Every conversation begins alike: that beginning is learned, and is an item of train alone."""
    snapshot = built(tmp_path, [talk("hello", "good day", f"ask {words}", f"done {words}") for words in WORDS], learn="all")
    assert [item.text for item in items(snapshot, Split.TRAIN)].count("hello") == 1
    for split in (Split.DEV, Split.TEST):
        assert items(snapshot, split) == tuple(row for row in snapshot.rows if row.split is split)
