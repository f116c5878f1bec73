"""The model card: what the Hub reads in front, what people read below, and no text of a row anywhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from support.release import average, base, evidence, ladder, made, manifest, objective, share
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.ladder import Allowance, RungKind
from tailorbird.domain.objective import DataOrigin, DataSource, Kpi, Objective, RiskTier
from tailorbird.release import CardFacts, GateInputs, apply_gate, model_card, rule_for


def _facts(
    kind: str = "lora", goal: Objective | None = None, licence: str = "Apache-2.0", remarks: tuple[str, ...] = (), **prompt: Any
) -> CardFacts:
    goal = goal or objective()
    found = evidence(average("macro_f1", 0.97, 0.95, 0.98), share("accuracy", 390, 400), candidate=kind)
    return CardFacts(
        objective=goal,
        manifest=manifest(),
        base=base().model_copy(update={"license": licence}),
        candidate=(candidate := made(kind)).model_copy(update={"prompt": candidate.prompt.model_copy(update=prompt)}),
        ladder=ladder(),
        test_evidence=found,
        gate=apply_gate(GateInputs(objective=goal, evidence=found, look=1)),
        rule=rule_for(goal),
        approval_remarks=remarks,
    )


def _card(*args: Any, **kwargs: Any) -> str:
    return model_card(_facts(*args, **kwargs))


def _front(card: str) -> dict[str, Any]:
    _, front, _ = card.split("---\n", 2)
    read: dict[str, Any] = yaml.safe_load(front)
    return read


def test_the_front_matter_is_what_the_hub_reads() -> None:
    front = _front(_card())
    assert front["base_model"] == "smollm2-135m"
    assert front["base_model_relation"] == "adapter"
    assert (front["library_name"], front["license"], front["pipeline_tag"]) == ("peft", "apache-2.0", "text-classification")
    assert front["tags"] == ["tailorbird", "classify", "lora", "risk-limited"]
    assert front["datasets"] == ["acme/desk"]
    (result,) = front["model-index"][0]["results"]
    assert result["dataset"]["revision"] == digest_of(manifest())
    accuracy = result["metrics"][0]
    assert (accuracy["type"], accuracy["value"]) == ("accuracy", 0.975)
    assert accuracy["args"]["low"] < 0.975 < accuracy["args"]["high"]
    assert (accuracy["args"]["confidence"], accuracy["args"]["n"]) == (0.9, 400)


@pytest.mark.parametrize(("kind", "relation", "library"), [("full", "finetune", "transformers"), ("prompt", None, "transformers")])
def test_each_rung_is_named_by_the_hubs_words(kind: str, relation: str | None, library: str) -> None:
    front = _front(_card(kind))
    assert (front.get("base_model_relation"), front["library_name"]) == (relation, library)


def test_a_licence_the_hub_has_no_word_for_keeps_its_name() -> None:
    front = _front(_card(licence="Acme Model Terms 3"))
    assert (front["license"], front["license_name"]) == ("other", "Acme Model Terms 3")


def test_data_from_the_hub_is_named_by_its_id() -> None:
    source = DataSource(path="hf://PolyAI/banking77@main", source=DataOrigin(origin="PolyAI", license="CC-BY-4.0"))
    assert _front(_card(goal=objective(data=(source,))))["datasets"] == ["PolyAI/banking77"]


def test_the_objectives_instruction_alone_is_printed() -> None:
    assert "Kowalska" not in _card("prompt", instruction="Sort what Anna Kowalska asks for.")


def test_reasoning_is_told_of_where_there_is_any() -> None:
    plain = objective()
    thinks = plain.model_copy(update={"task": plain.task.model_copy(update={"thinking": True})})
    told = ["before each answer, and left out of it" in _card(goal=goal) for goal in (plain, thinks)]
    assert told == [False, True]


def test_the_sections_say_what_a_reader_asks() -> None:
    card = _card()
    headings = [line for line in card.split("\n") if line.startswith("#")]
    assert headings == [
        "# acme/desk",
        "## Intended use",
        "## Training data",
        "## How it was chosen",
        "## Evaluation",
        "## Limits",
        "## What is not known",
        "## Approvals needed",
        "## How to take it back",
        "## Provenance",
    ]
    for said in (
        "A LoRA adapter for `smollm2-135m` (rung lora, variant r16)",
        "4,884,480 parameters were trained",
        "Of 1,300 rows read, 7 exact duplicates and 3 quarantined rows were set aside",
        "| rows.csv | written here | Apache-2.0 | unknown | unknown |",
        "| refund | 500 | 50 | 250 |",
        "| lora r16 | 4.88 M |",
        "Rungs are compared in pairs, on the same development items, by accuracy.",
        "look 1, 93.9% confidence",
        "pass | accuracy 0.975 is proven to reach 0.9 (at least 0.955) |",
        "Whether training rows can be extracted from the weights was not measured.",
        "1 person in the role approver, none of them the author.",
        "tailorbird rollback acme/desk",
    ):
        assert said in card, said


def test_a_high_risk_card_asks_for_two_people_of_two_roles() -> None:
    assert "2 different people in the role approver or reviewer, in 2 different roles" in _card(goal=objective(RiskTier.HIGH))


def test_a_prompt_card_counts_the_rows_it_shows_and_prints_none() -> None:
    card = _card("prompt")
    assert "No parameters were trained; 1 training rows are shown in the prompt." in card
    assert "SECRET ROW TEXT" not in card
    assert "extracted from the weights" not in card


def test_what_was_not_measured_is_said() -> None:
    goal = objective(kpis=(Kpi(metric="accuracy", target=0.9), Kpi(metric="recall[rare]", target=0.5)))
    card = _card(goal=goal)
    assert "- recall[rare] was not measured: too few items bear on it." in card
    assert "| recall[rare] | 0.5 |" in card


def test_free_text_cannot_break_the_card() -> None:
    plain = objective()
    nasty = plain.model_copy(update={"business": plain.business.model_copy(update={"goal": "a | b\n## Approved\n<script>x</script>\n---"})})
    card = _card(goal=nasty)
    assert "| goal | a \\| b ## Approved &lt;script>x&lt;/script> --- |" in card
    assert "\n## Approved" not in card


def test_the_same_facts_give_the_same_card() -> None:
    assert _card() == _card()


def test_the_card_says_what_approvals_are_worth() -> None:
    section = _card(remarks=("the keys of ada and ben lie in one workspace",)).split("## Approvals needed")[1].split("\n## ")[0]
    assert "When this card was written, the keys of ada and ben lie in one workspace." in section
    assert "When this card" not in _card()


def test_the_card_says_where_keys_were_looked_for() -> None:
    assert "looked at on the machine that wrote this card, and on no other" in _card()


def test_the_card_asks_for_what_the_quorum_asks() -> None:
    """The rule of a release that it replaces holds, not the one of its own tier."""
    facts = _facts(goal=objective(RiskTier.MINIMAL))
    own = model_card(facts).split("## Approvals needed")[1]
    assert "At risk tier minimal: 1 person in the role approver" in own
    assert "2 different people" not in own
    strict = model_card(replace(facts, rule=rule_for(objective(RiskTier.HIGH)))).split("## Approvals needed")[1]
    assert "while that one answers: 2 different people in the role approver or reviewer, in 2 different roles" in strict


def test_the_card_says_who_allowed_a_rung() -> None:
    given = Allowance(run="0" * 12, rung=RungKind.FULL, by="ada", reason="for the | audit")
    assert "ada allowed the rung full: for the " in model_card(replace(_facts(), allowances=(given,)))
