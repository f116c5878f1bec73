"""The model card: what the Hub reads in front, what people read below, and no text of a row anywhere."""

from __future__ import annotations

from typing import Any

import yaml

from support.release import average, base, evidence, ladder, made, manifest, objective, share
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.objective import Objective
from tailorbird.release import CardFacts, GateInputs, apply_gate, model_card, rule_for


def _facts(kind: str = "lora", goal: Objective | None = None, licence: str = "Apache-2.0", **prompt: Any) -> CardFacts:
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


def test_the_objectives_instruction_alone_is_printed() -> None:
    assert "Kowalska" not in _card("prompt", instruction="Sort what Anna Kowalska asks for.")


def test_a_prompt_card_prints_no_row() -> None:
    card = _card("prompt")
    assert "SECRET ROW TEXT" not in card


def test_free_text_cannot_break_the_card() -> None:
    plain = objective()
    nasty = plain.model_copy(update={"business": plain.business.model_copy(update={"goal": "a | b\n## Approved\n<script>x</script>\n---"})})
    card = _card(goal=nasty)
    assert "| goal | a \\| b ## Approved &lt;script>x&lt;/script> --- |" in card
    assert "\n## Approved" not in card
