"""What is taken of a proposal that a model wrote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from support.rungs import D, KeywordEngine, build_context, make_objective, make_plan_of, make_rows
from tailorbird.domain.endpoint import Endpoint, HostedModel
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.domain.rung_wishes import PromptSearchWishes, ProposerWishes
from tailorbird.ports.endpoint import HostedAnswer, KeepAnswer, keep_nothing
from tailorbird.ports.engine import Generation
from tailorbird.rungs.answer_journal import AnswerJournal
from tailorbird.rungs.prompt_proposals import Proposals, cleaned

OWN = "Sort the message by what it asks for; www.acme.example says more since 2019."


class Dictated(KeywordEngine):
    """Writes what it was given."""

    text = ""

    def generate(self, servable: str, prompts: Sequence[Sequence[Message]], *more: Any) -> list[Generation]:
        return [Generation(text=self.text, finish_reason="stop", prompt_tokens=1, completion_tokens=1, latency_ms=1.0) for _ in prompts]


def dropped_for(folder: Path, text: str, row: str = "Where is it?") -> list[str]:
    """Why ``text`` is dropped where a training row reads ``row``; empty where it may be tried."""
    engine, task = Dictated(), make_objective().task.model_copy(update={"instruction": OWN})
    engine.text = text
    context = build_context(
        folder,
        make_plan_of("prompt-search", "300 calls"),
        engine=lambda: engine,
        objective=make_objective().model_copy(update={"task": task}),
        train=(make_rows(1)[0].model_copy(update={"text": row}),),
    )
    proposals = Proposals(context, AnswerJournal(folder / "answers.jsonl", D), lambda keys: None)
    found = proposals.written(context.train, 1)
    assert len(found) + sum(proposals.dropped.values()) == 1
    return list(proposals.dropped)


@pytest.mark.parametrize(
    ("row", "text", "reasons"),
    [
        ("Anna Kowalska owes 12", "Sort it: anna kowalska, owes 12!", ["repeats a training row"]),
        ("refund Anna Kowalska", "Sort texts such as 'Refund, Anna Kowalska'.", ["repeats a training row"]),
        ("sort the message", "Please sort the message by its aim.", []),
        ("refund Anna Kowalska", "Name the refund that is asked for.", []),
        ("he is it", "Say what she is itching for in one word.", []),
    ],
    ids=["whole", "other marks", "in the objective's instruction", "a word of it", "within words"],
)
def test_an_instruction_that_holds_a_short_row_whole_is_dropped(tmp_path: Path, row: str, text: str, reasons: list[str]) -> None:
    assert dropped_for(tmp_path, text, row) == reasons


@pytest.mark.parametrize(
    ("text", "reasons"),
    [
        ("Sort what came in since 2019 by its aim.", []),
        ("Sort it by its aim, as on (www.acme.example).", []),
        ("Sort what came in since 2021 by its aim.", ["holds numbers or addresses"]),
        ("Sort it, and call 2019555 for help.", ["holds numbers or addresses"]),
        ("Sort it by its aim, as on www.other.example.", ["holds numbers or addresses"]),
        ("Sort it for anna@acme.example at once.", ["holds numbers or addresses"]),
    ],
)
def test_numbers_and_addresses_are_those_of_the_objectives_instruction(tmp_path: Path, text: str, reasons: list[str]) -> None:
    assert dropped_for(tmp_path, text) == reasons


@pytest.mark.parametrize(
    ("written", "taken"),
    [
        ('Sure! Here is the instruction:\n\n"Name the intent of the message."', "Name the intent of the message."),
        ("Revised instruction: Name the intent.", "Name the intent."),
        ("**Instruction:** Name the intent.", "Name the intent."),
        ("1. Read the message.\n2. Name the intent.", "Read the message."),
        ("- Name the intent.", "Name the intent."),
        ("\n\n  Name   the intent.  \n", "Name the intent."),
        ("Here it is:", ""),
        ("", ""),
    ],
)
def test_the_first_line_that_says_something_is_taken(written: str, taken: str) -> None:
    assert cleaned(written) == taken


class Outside:
    """A hosted proposer: writes ``text`` as ``model``."""

    def __init__(self, text: str = "Name what is asked for.", model: str = "large") -> None:
        self.text, self.model, self.asked = text, model, 0

    def ask(self, prompts: Sequence[Sequence[Message]], sampling: Sampling, keep: KeepAnswer = keep_nothing) -> list[HostedAnswer]:
        del sampling, keep
        self.asked += len(prompts)
        told: dict[str, Any] = {"finish_reason": "stop", "prompt_tokens": 1, "completion_tokens": 1, "latency_ms": 1.0}
        return [HostedAnswer(text=self.text, model=self.model, **told) for _ in prompts]


def proposals_of(folder: Path, outside: Outside, **changes: Any) -> Proposals:
    """Proposals that are asked for outside."""
    wishes = PromptSearchWishes(proposer=ProposerWishes(endpoint="outside", model="large"))
    endpoint = Endpoint(name="outside", url="https://llm.example", region="EU (Example Ltd)")
    context = build_context(
        folder,
        make_plan_of("prompt-search", "300 calls").model_copy(update={"proposer": endpoint}),
        objective=make_objective().model_copy(update={"prompt_search": wishes}),
        ask_proposer=outside.ask,
        **changes,
    )
    return Proposals(context, AnswerJournal(folder / "answers.jsonl", D), lambda keys: None)


def test_what_was_written_outside_before_a_kill_is_not_paid_again(tmp_path: Path) -> None:
    outside = Outside()
    first = proposals_of(tmp_path, outside)
    found = first.written(make_rows(8), 3)
    again = proposals_of(tmp_path, outside)
    assert again.written(make_rows(8), 3) == found
    assert outside.asked == 3
    assert again.reported == {"large"}
    for one in (first, again):
        assert one.proposer_of(found[0].instruction) == HostedModel(
            endpoint="outside", url="https://llm.example", model="large", reported="large"
        )
        assert one.proposer_of("Classify the message.") is None


def test_a_proposer_that_writes_without_end_is_dropped_at_once(tmp_path: Path) -> None:
    """What holds no space is what an expression for addresses goes through again from every place: two million took hours."""
    proposals = proposals_of(tmp_path, Outside("name it " + "x" * 2_000_000))
    assert proposals.written(make_rows(8), 2) == []
    assert proposals.dropped == {"too long": 2}
    assert (tmp_path / "answers.jsonl").stat().st_size < 50_000


def test_a_proposer_that_became_another_model_meanwhile_ends_the_rung(tmp_path: Path) -> None:
    proposals_of(tmp_path, Outside()).written(make_rows(8), 1)
    with pytest.raises(InvalidInput) as changed:
        proposals_of(tmp_path, Outside(model="large-2")).written(make_rows(8), 2)
    assert changed.value.error_code == "endpoint_model_changed"


def test_what_was_written_outside_may_repeat_no_row_of_dev(tmp_path: Path) -> None:
    [row] = make_rows(1)
    outside, dev = (
        Outside("Answer invoice where Anna Kowalska owes twelve."),
        (row.model_copy(update={"text": "Anna Kowalska owes twelve"}),),
    )
    for place, rows in (("with", dev), ("without", ())):
        proposals = proposals_of(tmp_path / place, outside, dev=rows)
        assert len(proposals.written(make_rows(8), 1)) == int(place == "without")
        assert list(proposals.dropped) == (["repeats a row of train or dev"] if rows else [])
