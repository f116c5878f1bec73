"""Reasoning before answers: in rows, in what is learned, and in the frames of families."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.chat_families import FAMILIES, FRAMED, write_family
from tailorbird.chat.conversations import fold_turns
from tailorbird.chat.prompts import messages_for_row
from tailorbird.domain.prompt import Message, PromptSpec, answer_of, split_reasoning, with_reasoning
from tailorbird.ports.trainer import Example
from tailorbird.training.batches import RowTokenizer

PROMPT = PromptSpec(instruction="Be brief.", thinking=True)
WHOLE = with_reasoning("It left on Monday.", "Yes.")
#: What stands behind the question: the end of the prompt, and what is learned of reasoning and answer.
LEARNED = {
    "reasoning that is switched": (
        "<|im_start|>assistant\n",
        "<think>\nIt left on Monday.\n</think>\n\nYes.<|im_end|>",
    ),
    "reasoning that is begun": ("<|im_start|>assistant\n<think>\n", "It left on Monday.\n</think>\n\nYes.<|im_end|>"),
    "reasoning that is not written": ("<|Assistant|><think>\n", "It left on Monday.\n</think>\n\nYes.<|end_of_sentence|>"),
    "chatml": ("<|im_start|>assistant\n", "<think>\nIt left on Monday.\n</think>\n\nYes.<|im_end|>"),
    "turns that are not closed": ("<|assistant|>", "\n<think>It left on Monday.</think>\nYes.<|user|>"),
    "thoughts in the prompt alone": ("<|turn>model\n", "<|channel>thought\nIt left on Monday.\n<channel|>Yes.<turn|>"),
    "channels": (
        "<|start|>assistant",
        "<|channel|>analysis<|message|>It left on Monday.<|end|><|start|>assistant<|channel|>final<|message|>Yes.<|return|>",
    ),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: write_family((FAMILIES | FRAMED)[name], tmp_path_factory.mktemp("family") / "base") for name in LEARNED}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Yes.", ("", "Yes.")),
        ("<think>\nhm\n</think>\n\nYes.", ("hm", "Yes.")),
        (" <think>hm</think>Yes.", ("hm", "Yes.")),
        ("<think></think>\n\nYes.", ("", "Yes.")),
        ("The mark </think> ends <think>", ("", "The mark </think> ends <think>")),
        ("<think>never closed", ("", "<think>never closed")),
    ],
)
def test_reasoning_and_answer_are_taken_apart(text: str, parts: tuple[str, str]) -> None:
    assert split_reasoning(text) == parts
    assert answer_of(with_reasoning(*parts)) == parts[1]


@pytest.mark.parametrize("name", LEARNED)
def test_reasoning_answer_and_end_are_learned_behind_the_generation_prompt(name: str, folders: dict[str, Path]) -> None:
    tokenizer = RowTokenizer(folders[name], thinking=True)
    (row,) = tokenizer.encode(PROMPT, [Example(text="Where is it?", target=WHOLE)])
    read, learned = (tokenizer.tokenizer.decode(ids, skip_special_tokens=False) for ids in (row.ids[: row.prompt], row.ids[row.prompt :]))
    assert (read[-len(LEARNED[name][0]) :], learned) == LEARNED[name]
    served = tokenizer.prompts([messages_for_row(PROMPT, "Where is it?")])[0]
    assert list(row.ids[: row.prompt]) == served
    whole = tokenizer.tokenizer.encode(read + learned, add_special_tokens=False).ids
    assert list(row.ids) == whole, "as a model writes it"


def test_what_was_reasoned_in_earlier_turns_is_no_longer_read(folders: dict[str, Path]) -> None:
    tokenizer = RowTokenizer(folders["chatml"], thinking=True)
    turns = [
        Message(role="user", content="Where is it?"),
        Message(role="assistant", content=WHOLE),
        Message(role="user", content="By ship?"),
    ]
    rows = tokenizer.encode(PROMPT, [Example(text=fold_turns(turns), target=with_reasoning("Ships are slow.", "No."), every_turn=True)])
    learned = [tokenizer.tokenizer.decode(row.ids[a:b]) for row in rows for a, b in row.spans]
    assert ["Monday" in text for text in learned] == [True, False]
    assert "Monday" not in tokenizer.tokenizer.decode(rows[-1].ids)
    assert "Ships are slow" in learned[-1]
