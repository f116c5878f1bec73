"""``learn: all``: what the assistant said in every turn is learned, with the very losses of each answer asked for by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from support.training_samples import PROMPT
from tailorbird.chat.conversations import fold_turns
from tailorbird.domain.prompt import Message
from tailorbird.ports.trainer import Example
from tailorbird.training.batches import RowTokenizer, TokenizedRow, each_turn, pack
from tailorbird.training.loop import ValidationRows
from tailorbird.training.network import Network, read_model

CPU = torch.device("cpu")


def talk(number: int, *answers: str, every_turn: bool = True) -> Example:
    turns = [Message(role="system", content="Be brief.")]
    for place, answer in enumerate(answers):
        turns.append(Message(role="user", content=f"question {number * 17 + place} about the parcel"))
        turns.append(Message(role="assistant", content=answer))
    return Example(text=fold_turns(turns[:-1]), target=answers[-1], every_turn=every_turn)


TALKS = [talk(1, "It left on Monday.", "Yes, by train."), talk(2, "No.", "Not yet, sorry.", "Tomorrow, then."), talk(3, "Fine.")]


def encoded(base: Path, *examples: Example) -> list[TokenizedRow]:
    return RowTokenizer(base).encode(PROMPT, examples)


def test_each_answer_and_its_end_are_learned_and_nothing_else(tiny_base: Path) -> None:
    encoder = RowTokenizer(tiny_base)
    row = encoder.encode(PROMPT, TALKS)[1]
    said = [encoder.tokenizer.decode(row.ids[start:end], skip_special_tokens=False) for start, end in row.spans]
    assert said == ["No.<|im_end|>", "Not yet, sorry.<|im_end|>", "Tomorrow, then.<|im_end|>"]
    assert row.learned == sum(end - start for start, end in row.spans) == len(row.targets)
    last = encoder.encode(PROMPT, [TALKS[1].model_copy(update={"every_turn": False})])[0]
    assert (last.ids, last.prompt, last.earlier) == (row.ids, row.prompt, ())


def test_losses_are_those_of_each_answer_asked_for_by_itself(tiny_base: Path) -> None:
    network = Network(read_model(tiny_base, torch.float32, CPU), "fp32")
    joined = encoded(tiny_base, *TALKS)
    apart = [
        [row for turn in each_turn(example) for row in encoded(tiny_base, turn.model_copy(update={"every_turn": False}))]
        for example in TALKS
    ]
    assert [len(rows) for rows in apart] == [2, 3, 1]
    wanted = [sum(network.plain_loss_sum(row) for row in rows) for rows in apart]
    assert [network.plain_loss_sum(row) for row in joined] == pytest.approx(wanted, rel=1e-5)
    packed = pack(joined, torch.float32, CPU)
    assert packed.loss_tokens == sum(row.learned for rows in apart for row in rows)
    assert network.loss_sum(packed).item() == pytest.approx(sum(wanted), rel=1e-5)
    assert ValidationRows(network, joined, 10_000).losses() == pytest.approx(wanted, rel=1e-5)
