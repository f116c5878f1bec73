"""Probes that are sound; drops and planted strings that are found where they were put, by engines that forget and remember on purpose."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence

import pytest

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.deployment import Servable
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message, PromptSpec
from tailorbird.evaluation.canaries import canary_set
from tailorbird.evaluation.retention import (
    measure_memorisation,
    measure_retention,
    memorisation_metric,
    neutral_texts,
    probes,
    why_invalid,
)
from tailorbird.ports.engine import Generation, LabelScores, Likelihood

BASE, CANDIDATE = digest_bytes(b"base"), digest_bytes(b"candidate")


BIRDS = canary_set(20)


def test_the_probes_are_many_distinct_and_of_all_families() -> None:
    found = probes()
    assert len(found) >= 300
    assert len({probe.id for probe in found}) == len(found)
    assert len({(probe.prompt, probe.choices) for probe in found}) == len(found)
    families = Counter(probe.family for probe in found)
    assert families.keys() == {"grammar", "arithmetic", "facts", "refusal", "instructions", "formats"}
    assert min(families.values()) >= 30
    assert len(neutral_texts()) >= 20


def test_every_choice_differs_and_the_right_one_stands_anywhere() -> None:
    choosing = [probe for probe in probes() if probe.choices]
    assert all(len(set(probe.choices)) == len(probe.choices) > probe.answer for probe in choosing)
    for family in ("grammar", "arithmetic", "facts"):
        places = Counter(probe.answer for probe in choosing if probe.family == family)
        assert min(places.values()) > sum(places.values()) / len(places) / 2


@pytest.mark.parametrize(
    ("prompt", "good", "bad"),
    [
        ('Write a JSON object with the key "name" and the value "Ana". Write only the JSON.', '{"name": "Ana"}', "name: Ana"),
        ("List 2 animals as a numbered list, one a line. Write only the list.", "1. cat\n2. dog", "cat and dog"),
    ],
)
def test_free_answers_are_matched_by_rule(prompt: str, good: str, bad: str) -> None:
    (probe,) = [probe for probe in probes() if probe.prompt == prompt]
    assert re.fullmatch(probe.pattern, good)
    assert not re.fullmatch(probe.pattern, bad)


class Forgetful:
    """Knows every answer as the base; as the candidate it has forgotten the families named. Remembers the secrets given to it."""

    def __init__(self, forgotten: Sequence[str] = (), remembered: Sequence[str] = (), said: Sequence[str] = ()) -> None:
        self._forgotten, self._remembered, self._said = forgotten, remembered, said
        self._families = {probe.prompt: probe.family for probe in probes()}
        self._right = {choice: probe.id for probe in probes() for choice in probe.choices[probe.answer : probe.answer + 1]}
        self._by = {(probe.prompt, probe.choices[probe.answer]) for probe in probes() if probe.choices}

    def likelihood(
        self, servable: str, prompts: Sequence[Sequence[Message]], answers: Sequence[str], against: str | None = None
    ) -> list[Likelihood]:
        return [self._one(servable, prompt[-1].content, answer, against) for prompt, answer in zip(prompts, answers, strict=True)]

    def _one(self, servable: str, asked: str, answer: str, against: str | None) -> Likelihood:
        right = (asked, answer) in self._by
        lost = servable == CANDIDATE and self._families.get(asked) in self._forgotten
        return Likelihood(nats=-1.0 if right != lost else -2.0, tokens=3, divergence=0.25 if against else None)

    def generate(self, servable: str, prompts: Sequence[Sequence[Message]], sampling: object, on_text: object = None) -> list[Generation]:
        told = [next((s for s in self._said if _question(s) == prompt[-1].content), "nothing") for prompt in prompts]
        return [Generation(text=text, finish_reason="stop", prompt_tokens=1, completion_tokens=1, latency_ms=1) for text in told]

    def score(self, servable: str, prompts: Sequence[Sequence[Message]], labels: Sequence[str]) -> list[LabelScores]:
        return [self._scores(prompt[-1].content, labels) for prompt in prompts]

    def _scores(self, asked: str, labels: Sequence[str]) -> LabelScores:
        known = [0.0 if label in self._remembered and _question(label) == asked else -5 - _noise(asked + label) for label in labels]
        return LabelScores(log_probabilities=tuple(known), prompt_tokens=1, latency_ms=1)


def _noise(text: str) -> float:
    return hashlib.sha256(text.encode()).digest()[0] / 256


def _question(secret: str) -> str | None:
    return next((canary.text for canary in (*BIRDS.planted, BIRDS.control) if canary.secret == secret), None)


def test_what_was_forgotten_is_found_in_its_family() -> None:
    found = measure_retention(Forgetful(forgotten=("arithmetic",)), BASE, CANDIDATE, 0.9, lambda _done, _total: None)
    drops = {family.family: family.drop for family in found.families}
    assert drops["arithmetic"] == 1
    assert sum(drops.values()) == 1
    assert (found.lost, found.won) == (100, 0)
    assert found.overall.low > 0.15


def _servable() -> Servable:
    prompt = PromptSpec(instruction="Answer.")
    return Servable(id=CANDIDATE, tenant="acme", task=TaskKind.GENERATE, base="", adapter=None, weights=None, prompt=prompt)


def test_strings_that_come_out_are_counted_and_ranks_tell_before_they_do() -> None:
    secrets = [canary.secret for canary in BIRDS.planted]
    engine = Forgetful(remembered=[*secrets, BIRDS.control.secret], said=secrets[:2])
    found = measure_memorisation(engine, _servable(), BIRDS, True, 0.9)
    assert found.extracted == memorisation_metric(found).value == 2
    assert set(found.exposures) == {6.0}
    assert found.p_value < 1e-6


def test_a_look_that_finds_not_even_the_control_says_nothing() -> None:
    found = measure_memorisation(Forgetful(), _servable(), BIRDS, True, 0.9)
    assert not found.valid
    assert why_invalid(found)
    unlearned = measure_memorisation(Forgetful(remembered=(BIRDS.control.secret,)), _servable(), BIRDS, False, 0.9)
    assert why_invalid(unlearned)
