"""A hosted model behind a prompt that was searched with it: what is found, sent, paid, kept and told, and bad servers and budgets."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.doubles import MemoryEndpoint
from support.hosted import (
    DONE,
    MODEL,
    NAMED,
    SECTION,
    USAGE,
    Reply,
    ScriptedServer,
    allow,
    endpoint,
    event,
    hosting,
    register,
    serving,
)
from support.usecases import VIEWER, write_objective
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.data import load_rows
from tailorbird.domain.dataset import Split
from tailorbird.domain.errors import ObjectiveInvalid, Unavailable
from tailorbird.domain.ladder import Candidate, Climb, Making, RungKind
from tailorbird.domain.plan import RungPlan
from tailorbird.domain.prompt import Message, PromptSearch
from tailorbird.domain.run import Step
from tailorbird.integrations.hosted_endpoint import OpenAiEndpoint
from tailorbird.objective import parse_objective
from tailorbird.rungs.prompt_search import PromptTrials, Trial
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.runs.queries import RunReport, show_run
from tailorbird.usecases.runs.submit import adapt, plan

#: What an objective needs that searches a prompt with the endpoint ``outside``.
SEARCHED: dict[str, Any] = NAMED | {
    "ladder": ["hosted"],
    "hosted": SECTION | {"variants": ["few-shot", "searched"]},
    "prompt_search": {"calls": 200},
}
MAKE = "make hosted searched"
AWAY = Unavailable("the endpoint outside cannot be reached", "look whether it is up", code="endpoint_unavailable")


def led(prompt: Sequence[Message]) -> str:
    """Knows labels behind four demonstrations at least, which few-shot does not show."""
    return prompt[-1].content.split()[-1] if len(prompt) >= 10 else "who knows"


def knowing(prompt: Sequence[Message]) -> str:
    """Knows labels behind any prompt."""
    return prompt[-1].content.split()[-1]


def granted(deps: Dependencies, client: MemoryEndpoint, **changes: object) -> Dependencies:
    deps = hosting(deps, client)
    register(deps, endpoint(**changes))
    allow(deps, "outside")
    return deps


def climbed(deps: Dependencies, author: Actor, path: Path, progress: Progress | None = None) -> RunReport:
    return show_run(deps, VIEWER, adapt(deps, author, path, progress or Progress()).run.id)


def search_of(deps: Dependencies, told: RunReport) -> tuple[Climb, Candidate, PromptSearch]:
    assert told.ladder is not None
    [climb] = [each for each in told.ladder.climbs if each.variant == "searched"]
    assert climb.search is not None
    with deps.ledger.work("acme", write=False) as work:
        return climb, work.records.get(Candidate, climb.candidate), work.records.get(PromptSearch, climb.search)


def refusals(told: RunReport) -> str:
    assert told.ladder is not None
    return " ".join(each.reason for each in told.ladder.refused if each.variant == "searched")


def sent(deps: Dependencies) -> list[dict[str, object]]:
    with deps.ledger.work("acme", write=False) as work:
        return [dict(entry.event.data) for entry in work.events.entries() if entry.event.kind == "data.sent"]


def steps(deps: Dependencies) -> dict[str, Step]:
    """The steps of the last run of the tenant."""
    with deps.ledger.work("acme", write=False) as work:
        return {step.name: step for run in work.runs.all() for step in work.steps.of(run.id)}


def while_searching(
    deps: Dependencies,
    client: MemoryEndpoint,
    answer: Callable[[int, Sequence[Message]], str | Unavailable],
    otherwise: Callable[[Sequence[Message]], str] = led,
) -> list[tuple[Message, ...]]:
    """Has ``answer`` answer in the step that searches; gives it how many were asked in that step. What was asked there is in the list."""
    asked = list[tuple[Message, ...]]()

    def answering(prompt: Sequence[Message]) -> str | Unavailable:
        state = steps(deps)
        if MAKE not in state or state[MAKE].state != "leased":
            return otherwise(prompt)
        asked.append(tuple(prompt))
        return answer(len(asked), prompt)

    client.answering = answering
    return asked


def test_it_is_searched_measured_and_released(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    client = MemoryEndpoint(led, model=MODEL)
    deps = granted(deps, client)
    asked = while_searching(deps, client, lambda _, prompt: led(prompt))
    told = climbed(deps, author, write_objective(tmp_path / "job", **SEARCHED))
    climb, candidate, log = search_of(deps, told)
    assert len(candidate.prompt.demonstrations) >= 4
    assert candidate.hosted is not None
    assert candidate.hosted.model == MODEL
    assert log.metric == "the share of right labels"
    assert (log.calls <= log.budget == 200, log.ended) == (True, "")
    assert len(asked) == log.calls + 1, "one more asks who answers"
    assert climb.evidence.metrics["accuracy"].value > 0.9
    assert log.sentence in climb.reason
    assert climb.against_below is not None
    assert climb.against_below.low > 0.5
    # The search saw train alone, and what was sent was written first.
    assert told.manifest is not None
    rows = {split: {row.text for row in load_rows(told.manifest, deps.artifacts, split)} for split in Split}
    shown = [message.content for prompt in asked for message in prompt]
    assert not any(text in said for split in (Split.DEV, Split.TEST) for text in rows[split] for said in shown)
    assert [each["split"] for each in sent(deps)[:4]] == ["train", "dev", "train", "dev"]
    assert sent(deps)[2]["rows"] == len(rows[Split.TRAIN])
    assert told.conclusion is not None
    with deps.ledger.work("acme", write=False) as work:
        release = work.releases.get(str(told.conclusion.release))
        [made] = [work.records.get(Making, digest) for digest in work.records.digests(Making) if digest == steps(deps)[MAKE].result]
    assert (release.content.hosted, release.content.prompt) == (candidate.hosted, candidate.prompt)
    assert made.hosted is not None
    assert made.hosted.requests == len(asked)
    card = deps.artifacts.get(release.dossier.card).decode()
    assert "(rung hosted, variant searched)" in card


def test_money_that_ends_in_the_middle_leaves_the_best_so_far(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    """Its answers are longer than the plan took them to be, until the search has ended: what it left pays for dev."""
    client = MemoryEndpoint(led, model=MODEL)
    deps = granted(deps, client, input_price=10.0, output_price=100.0)
    changed = SEARCHED | {"hosted": SECTION | {"variants": ["searched"]}}
    drafted = plan(deps, author, write_objective(tmp_path / "rich", name="rich", budget={"money": 50, "hours": 1}, **changed), Progress())
    [rung] = drafted.plan.rungs
    budget = round(2 * rung.money.likely, 4)
    while_searching(deps, client, lambda _, prompt: f"{120 * 'well, '}{led(prompt)}")
    path = write_objective(tmp_path / "job", budget={"money": budget, "hours": 1}, **changed)
    told = climbed(deps, author, path)
    climb, candidate, log = search_of(deps, told)
    assert 0 < log.calls < log.budget
    assert f"{log.calls} of 200 calls" in log.sentence
    assert "then the money that the budget leaves for it was used up" in climb.reason
    assert climb.evidence.n > 0, "it was measured all the same"
    assert digest_of(candidate.prompt) in {each.prompt for each in log.tried}
    assert sum(step.paid for step in steps(deps).values()) <= budget


def test_a_kill_after_the_money_has_ended_changes_nothing(
    deps: Dependencies, author: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MemoryEndpoint(led, model=MODEL)
    deps = granted(deps, client, input_price=10.0, output_price=100.0)
    changed = SEARCHED | {"hosted": SECTION | {"variants": ["searched"]}}
    drafted = plan(deps, author, write_objective(tmp_path / "rich", name="rich", budget={"money": 50, "hours": 1}, **changed), Progress())
    [rung] = drafted.plan.rungs
    asked = while_searching(deps, client, lambda _, prompt: f"{120 * 'well, '}{led(prompt)}")
    path = write_objective(tmp_path / "job", budget={"money": round(2 * rung.money.likely, 4), "hours": 1}, **changed)
    with monkeypatch.context() as patched:
        patched.setattr(PromptTrials, "best_so_far", killed_here)
        with pytest.raises(KeyboardInterrupt):
            adapt(deps, author, path, Progress())
    before = len(asked)
    climb, _, log = search_of(deps, climbed(deps, author, path))
    assert (len(asked), log.calls) == (before, before - 1), "one asked who answers"
    assert "then the money that the budget leaves for it was used up" in climb.reason


def killed_here(_: PromptTrials) -> Trial:
    raise KeyboardInterrupt


def test_a_budget_that_leaves_nothing_for_it_leaves_the_others(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    """The plan's likely price fits, and measuring dev at its highest takes all of it."""
    client = MemoryEndpoint(led, model=MODEL)
    deps = granted(deps, client, input_price=10.0, output_price=100.0)
    changed = SEARCHED | {"hosted": SECTION | {"variants": ["zero-shot", "searched"]}, "prompt_search": {"calls": 50}}
    drafted = plan(deps, author, write_objective(tmp_path / "rich", name="rich", budget={"money": 50, "hours": 1}, **changed), Progress())
    [searched] = [rung for rung in drafted.plan.rungs if rung.variant == "searched"]
    budget = round(1.3 * searched.money.likely, 4)
    told = climbed(deps, author, write_objective(tmp_path / "job", budget={"money": budget, "hours": 1}, **changed))
    assert "[search_money]" in refusals(told)
    assert "failed while it was being made" in refusals(told)


def test_nothing_is_sent_to_another_address_than_was_planned(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    client = MemoryEndpoint(led, model=MODEL)
    deps = granted(deps, client)

    def moved(prompt: Sequence[Message]) -> str:
        register(deps, endpoint(url="https://other.example"))
        return led(prompt)

    client.answering = moved
    told = climbed(
        deps, author, write_objective(tmp_path / "job", **SEARCHED | {"hosted": SECTION | {"variants": ["searched", "zero-shot"]}})
    )
    assert "endpoint_changed" in refusals(told)
    assert {each["url"] for each in sent(deps)} == {"https://llm.example"}


def test_one_that_goes_away_in_the_middle_leaves_few_shot(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    client = MemoryEndpoint(led, model=MODEL)
    deps = granted(deps, client)
    while_searching(deps, client, lambda count, prompt: led(prompt) if count < 60 else AWAY, knowing)
    kpis = [{"metric": "accuracy", "target": 0.8}]
    path = write_objective(tmp_path / "job", **SEARCHED, kpis=kpis)
    told = climbed(deps, author, path)
    assert "endpoint_unavailable" in refusals(told)
    assert told.ladder is not None
    assert {climb.variant for climb in told.ladder.climbs} == {"few-shot"}
    assert told.conclusion is not None
    assert told.conclusion.release is not None
    assert steps(deps)[MAKE].paid > 0


def test_what_was_paid_before_a_kill_is_not_asked_again(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    client = MemoryEndpoint(led, model=MODEL)
    deps = granted(deps, client)

    def killed(count: int, prompt: Sequence[Message]) -> str:
        if count in (60, 130):
            raise KeyboardInterrupt
        return led(prompt)

    asked = while_searching(deps, client, killed)
    path = write_objective(tmp_path / "job", **SEARCHED)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            adapt(deps, author, path, Progress())
    told = climbed(deps, author, path)
    _, candidate, log = search_of(deps, told)
    assert len(candidate.prompt.demonstrations) >= 4
    again = Counter(prompt for prompt in asked if prompt[-1].content != "N/A")
    assert sum(count - 1 for count in again.values()) <= 2 * 4, "a batch for each kill"
    assert len(again) == log.calls


def test_another_model_after_a_kill_does_not_go_on_with_its_answers(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    client = MemoryEndpoint(led, model=MODEL)
    deps = granted(deps, client)

    def killed(count: int, prompt: Sequence[Message]) -> str:
        if count == 60:
            client.model = f"{MODEL}-next"
            raise KeyboardInterrupt
        return led(prompt)

    while_searching(deps, client, killed)
    path = write_objective(tmp_path / "job", **SEARCHED)
    with pytest.raises(KeyboardInterrupt):
        adapt(deps, author, path, Progress())
    assert "endpoint_model_changed" in refusals(climbed(deps, author, path))


def planned(deps: Dependencies, author: Actor, path: Path) -> dict[str, RungPlan]:
    return {rung.variant: rung for rung in plan(deps, author, path, Progress()).plan.rungs if rung.rung is RungKind.HOSTED}


@pytest.mark.parametrize(
    ("changes", "variants"),
    [
        ({"ladder": ["prompt", "hosted"]}, {"zero-shot", "few-shot"}),
        ({"ladder": ["prompt", "prompt-search", "hosted"]}, {"zero-shot", "few-shot", "searched"}),
        ({"ladder": ["hosted"], "hosted": SECTION | {"variants": ["searched"]}}, {"searched"}),
        ({"hosted": SECTION | {"variants": ["zero-shot", "searched"]}}, {"zero-shot", "searched"}),
    ],
)
def test_it_is_planned_where_it_is_wished_for(
    deps: Dependencies, author: Actor, tmp_path: Path, changes: dict[str, Any], variants: set[str]
) -> None:
    deps = granted(deps, MemoryEndpoint(led, model=MODEL))
    assert set(planned(deps, author, write_objective(tmp_path / "job", **NAMED | changes))) == variants


def test_its_calls_and_its_price_are_planned(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    deps = granted(deps, client := MemoryEndpoint(led, model=MODEL))
    drafted = plan(deps, author, write_objective(tmp_path / "job", **SEARCHED), Progress())
    few, searched = (next(rung for rung in drafted.plan.rungs if rung.variant == variant) for variant in ("few-shot", "searched"))
    assert searched.calls == 200
    assert searched.money.likely > few.money.likely
    assert searched.time.likely > few.time.likely
    told = " ".join(reason.text for reason in searched.reasons)
    assert "searched with 200 calls of it: rows of dev and train leave the house, to EU (Example Ltd)" in told
    assert client.asked == []


@pytest.mark.parametrize(
    ("section", "what"),
    [
        ("{endpoint: outside, model: m, variants: []}", "hosted.variants"),
        ("{endpoint: outside, model: m, variants: [guessed]}", "hosted.variants"),
        ("{endpoint: outside, model: m, variants: [few-shot]}", "the ladder does not list the rung prompt-search"),
    ],
)
def test_wishes_that_nothing_could_come_of(section: str, what: str) -> None:
    source = "{origin: us, license: CC0-1.0, processors: [outside]}"
    text = (
        "name: desk\ntenant: acme\nbusiness: {goal: g, owner: o, risk: minimal}\ntask: {kind: classify, instruction: Do it.}\n"
        f"data:\n- {{path: rows.csv, source: {source}}}\nhosted: {section}\nprompt_search: {{calls: 100}}\n"
        "kpis:\n- {metric: accuracy, target: 0.5}\n"
    )
    with pytest.raises(ObjectiveInvalid, match=what):
        parse_objective(text, "objective.yaml")


def test_generated_answers_are_searched_by_their_overlap(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    deps = granted(deps, MemoryEndpoint(led, model=MODEL))
    task, kpis = {"kind": "generate", "instruction": "Say the last word."}, [{"metric": "exact_match", "target": 0.8}]
    _, candidate, log = search_of(deps, climbed(deps, author, write_objective(tmp_path / "job", **SEARCHED, task=task, kpis=kpis)))
    assert (len(candidate.prompt.demonstrations) >= 4, log.metric) == (True, "exact_match")


class Reading(ScriptedServer):
    """A server that answers as ``led``, and reads no more than so many messages."""

    def __init__(self, longest: int) -> None:
        super().__init__(Reply())
        self.longest, self.unread = longest, 0

    def reply_to(self, body: dict[str, Any]) -> Reply:
        messages = [Message.model_validate(each) for each in body["messages"]]
        if len(messages) > self.longest:
            self.unread += 1
            fault = {"message": "SECRET WORDS of the prompt", "code": "context_length_exceeded"}
            return Reply(400, (json.dumps({"error": fault}).encode(),))
        return Reply(parts=(event(led(messages)), event(finish_reason="stop", delta={}), USAGE, DONE))


@pytest.mark.parametrize("longest", [99, 8], ids=["reads all", "reads a few demonstrations"])
def test_a_real_server(deps: Dependencies, author: Actor, tmp_path: Path, longest: int) -> None:
    with serving(Reading(longest)) as server:
        deps = hosting(deps)
        deps = replace(deps, endpoint_client=lambda one, model: OpenAiEndpoint(one, model, lambda: "", first_wait=0.01))
        register(deps, endpoint(url=server.url, private=True, key=None))
        allow(deps, "outside")
        changed = SEARCHED | {"hosted": SECTION | {"variants": ["zero-shot", "searched"]}}
        told = climbed(deps, author, write_objective(tmp_path / "job", **changed))
        _, candidate, log = search_of(deps, told)
        assert isinstance(server, Reading)
        assert (server.unread > 0, log.dropped.get("not read by the model", 0) > 0) == (longest < 99, longest < 99)
    assert 2 * len(candidate.prompt.demonstrations) + 2 <= longest
    assert "SECRET WORDS" not in log.model_dump_json()
