"""The support chatbot: its data are what their card says, and its script ends with a conversation that was handed over and settled."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from support.examples import EXAMPLES, run_script, small_form, written_again
from tailorbird.domain.objective import TaskKind
from tailorbird.objective import read_objective
from tailorbird.text.regex import occurs

EXAMPLE = EXAMPLES / "support_chatbot"
SPLITS = ("train", "dev", "test")


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (EXAMPLE / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def talks() -> dict[str, list[list[dict[str, str]]]]:
    return {split: [row["messages"] for row in lines(split)] for split in SPLITS}


@pytest.fixture(scope="module")
def rules() -> dict[str, str]:
    """The subject of each rule."""
    return {section["text"]: section["title"].rpartition(", ")[0] for section in lines("handbook")}


@pytest.fixture(scope="module")
def card() -> str:
    return (EXAMPLE / "DATA_CARD.md").read_text(encoding="utf-8")


def test_turns_alternate_and_end_with_the_assistant(talks: dict[str, list[list[dict[str, str]]]]) -> None:
    for rows in talks.values():
        for turns in rows:
            assert [turn["role"] for turn in turns] == ["user", "assistant"] * (len(turns) // 2)
    assert Counter(len(turns) for turns in talks["train"])[6] > 20


def test_every_answer_is_a_rule_the_question_for_the_ticket_or_a_handover(
    talks: dict[str, list[list[dict[str, str]]]], rules: dict[str, str], card: str
) -> None:
    objective = read_objective(EXAMPLE / "objective.yaml").objective
    assert objective.referral is not None
    pattern = objective.referral.pattern
    assert pattern is not None
    told: dict[str, Counter[str]] = {}
    for split, rows in talks.items():
        answers = [turns[-1]["content"] for turns in rows]
        asks = sum(answer.startswith("Which ticket do you hold") for answer in answers)
        handed = sum(occurs(pattern, answer) for answer in answers)
        told[split] = Counter(rule=sum(answer in rules for answer in answers), ask=asks, people=handed)
        assert told[split].total() == len(answers)
    for what, start in (("rule", "the rule of the handbook"), ("ask", '"Which ticket'), ("people", '"I am passing')):
        row = next(line for line in card.splitlines() if line.startswith(f"| {start}"))
        assert re.findall(r"\| (\d+)(?= )", row) == [str(told[split][what]) for split in SPLITS]


def test_dev_and_test_ask_for_subjects_that_training_lacks(
    talks: dict[str, list[list[dict[str, str]]]], rules: dict[str, str], card: str
) -> None:
    subjects = {split: {rules[turns[-1]["content"]] for turns in rows if turns[-1]["content"] in rules} for split, rows in talks.items()}
    assert len(subjects["test"] - subjects["train"]) == 6
    assert len(subjects["dev"] - subjects["train"]) >= 5
    new = [sum(rules.get(turns[-1]["content"], "") in subjects["test"] - subjects["train"] for turns in talks[split]) for split in SPLITS]
    assert f"| of these, of a subject that no training conversation is about | {new[0]} | {new[1]} | {new[2]} |" in card


def test_a_rule_is_told_of_the_ticket_that_the_passenger_holds(talks: dict[str, list[list[dict[str, str]]]], rules: dict[str, str]) -> None:
    """The ticket of the answer was named by the passenger."""
    for turns in (turns for rows in talks.values() for turns in rows if turns[-1]["content"] in rules):
        ticket = next(ticket for ticket in ("Saver", "Flex", "Resident") if ticket in turns[-1]["content"])
        assert ticket in " ".join(turn["content"] for turn in turns if turn["role"] == "user")


def test_no_conversation_stands_twice(talks: dict[str, list[list[dict[str, str]]]]) -> None:
    texts = [json.dumps(turns) for rows in talks.values() for turns in rows]
    assert len(set(texts)) == len(texts)


def test_the_files_are_those_that_the_program_writes(tmp_path: Path) -> None:
    written_again(EXAMPLE / "make_conversations.py", tmp_path)
    for name in ("handbook", *SPLITS):
        assert (tmp_path / f"{name}.jsonl").read_bytes() == (EXAMPLE / f"{name}.jsonl").read_bytes()


def test_the_card_counts_right(card: str) -> None:
    assert "synthetic" in card
    assert f"the {len(lines('handbook'))} rules" in card
    for split in SPLITS:
        assert f"`{split}.jsonl` ({len(lines(split))})" in card


def test_the_objective_can_be_read() -> None:
    objective = read_objective(EXAMPLE / "objective.yaml").objective
    assert (objective.name, objective.tenant, objective.task.kind) == ("support-chatbot", "acme", TaskKind.GENERATE)
    assert {kpi.metric for kpi in objective.kpis} == {"exact_match", "referral_recall"}


@pytest.mark.jobs
def test_a_small_form_ends_with_a_conversation_that_was_handed_over(tmp_path: Path, base_model_folder: Path) -> None:
    kpis = [{"metric": "exact_match", "target": 0.05}, {"metric": "referral_recall", "target": 0.05}]
    few = {"train.jsonl": 110, "dev.jsonl": 36, "test.jsonl": 36}
    objective = small_form(EXAMPLE, tmp_path / "job", few, kpis=kpis, ladder=["grounding+lora"], lora={"epochs": 1})
    told = run_script(EXAMPLE / "demo.py", tmp_path / "workspace", base_model_folder.parent, str(objective))
    assert_handed_over(told)


@pytest.mark.jobs
def test_the_whole_script(tmp_path: Path, base_model_folder: Path) -> None:
    told = run_script(EXAMPLE / "demo.py", tmp_path / "workspace", base_model_folder.parent)
    assert_handed_over(told)
    assert "grounding+lora" in told


def assert_handed_over(told: str) -> None:
    """The last turn was referred, waited with the whole conversation, and was settled."""
    assert re.search(r"Who is liable\?\n  chatbot:   .*passing this on to a colleague.*→ referred to people", told)
    assert told.count("thumb up for req_") == 3
    assert re.search(r"^req_\w+ is labelled Ms Varga", told, flags=re.M)
    assert re.search(r"referred .*passing this on", told)
    assert "the log is intact" in told
