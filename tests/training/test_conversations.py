"""``learn: all``: what the assistant said in every turn is learned, with the very losses of each answer asked for by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from support.training_samples import PROMPT, MakeJob
from tailorbird.chat.conversations import fold_turns
from tailorbird.domain.prompt import Message
from tailorbird.ports.trainer import Example
from tailorbird.training import open_trainer
from tailorbird.training.batches import RowTokenizer, TokenizedRow, divide, each_turn, pack, shared_prefix
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


def test_a_shared_beginning_ends_before_the_first_answer(tiny_base: Path) -> None:
    same = talk(5, "It left.", "By train.")
    rows = encoded(tiny_base, same, same.model_copy(update={"target": "By ship."}))
    assert shared_prefix(rows) == rows[0].read - 1
    assert shared_prefix([TokenizedRow(row.ids, row.prompt) for row in rows]) > rows[0].read
    assert [len(part) for part in divide(rows, 10_000)] == [2]


def test_an_answer_that_the_next_prompt_reads_otherwise_is_a_row_of_its_own(tiny_base: Path) -> None:
    """A line break at its beginning becomes one token with that of the template: the later prompt does not hold the answer's tokens."""
    rows = encoded(tiny_base, talk(1, "\n\nIt left.", "Yes."))
    assert [len(row.spans) for row in rows] == [1, 1]


def test_doctor_shows_what_is_learned_and_training_learns_it(make_job: MakeJob) -> None:
    job = make_job(train=tuple(talk(n, f"It is number {n}.", "Yes.") for n in range(12)), held_out=tuple(TALKS), batch_size=4, epochs=1)
    examination = open_trainer().examine(job)
    assert [finding.code for finding in examination.findings if finding.severity.value == "blocking"] == []
    shown = ["".join(token.text for token in row if token.learned) for row in examination.first_batch]
    assert all(text.endswith("Yes.<|im_end|>") and text.startswith("It is number") for text in shown)
    assert open_trainer().train(job, lambda _: None).report.best_held_out_loss > 0
