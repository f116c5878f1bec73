"""The rule by which the benchmark of decisions knows the right answer, and the rows of its beds."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "decision"))

from beds import DATA
from kinds import KINDS, VOLUMES, _parts, write_kind
from known_answers import NONE, Cost, cases_of, right_answer
from rivals import served

from support.doubles.artifacts import MemoryArtifacts
from tailorbird.data import SnapshotRequest, build_snapshot
from tailorbird.domain.dataset import Split
from tailorbird.domain.endpoint import Endpoint
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.integrations.hosted_endpoint import OpenAiEndpoint
from tailorbird.objective import read_objective
from tailorbird.ports.endpoint import HostedAnswer

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="no public data sets here: set TAILORBIRD_TEST_DATA")


def test_the_cheapest_that_passes_is_right_unless_a_costlier_one_is_clearly_better() -> None:
    assert right_answer({"a": 0.80, "b": 0.81}, 0.6, 100) == "a"
    assert right_answer({"a": 0.75, "b": 0.95}, 0.6, 100) == "b"
    assert right_answer({"a": 0.30, "b": 0.85}, 0.6, 100) == "b"
    assert right_answer({"a": 0.30, "b": 0.40}, 0.6, 100) == NONE


@pytest.mark.parametrize("truth", [{"a": 0.65}, {"a": 0.58}, {"a": 0.8, "b": 0.87}], ids=["barely passes", "barely fails", "barely better"])
def test_what_dev_could_not_tell_is_asked_of_nobody(truth: dict[str, float]) -> None:
    assert right_answer(truth, 0.6, 60) is None


@needs_data
def test_one_objective_stands_for_each_answer_that_a_target_makes_clear() -> None:
    """``nearest`` is right where both pass, being better, and where it passes alone; from 0.85 on none does."""
    truth = {"zero-shot": 0.02, "few-shot": 0.5, "nearest": 0.8}
    found = cases_of(KINDS["tickets-exact"], truth)
    assert [(case.right, case.name.rpartition(", ")[2]) for case in found] == [
        ("nearest", "2 pass"),
        ("nearest", "1 pass"),
        (NONE, "0 pass"),
    ]
    assert [right_answer(truth, case.target, 60) for case in found] == ["nearest", "nearest", NONE]
    assert found[-1].target == 0.85


@needs_data
def test_traffic_alone_turns_the_answer() -> None:
    """By what making, measuring and asking cost: a request to ``nearest`` costs four times one to an adapter that costs 2,000 to make."""
    truth = {"prompt zero-shot": 0.4, "prompt few-shot": 0.5, "nearest 8 by words": 0.85, "lora r16": 0.9}
    costs = {"nearest 8 by words": Cost(1.0, (300.0, 320.0)), "lora r16": Cost(2000.0, (75.0, 80.0))}
    found = cases_of(KINDS["traffic"], truth, costs)
    assert [case.right for case in found] == ["nearest 8 by words", "lora r16"]
    assert len({case.target for case in found}) == 1
    assert [case.more["traffic"]["per_month"] for case in found] == list(VOLUMES.values())
    assert cases_of(KINDS["traffic"], truth | {"prompt few-shot": 0.85}, costs) == []
    cheap = costs | {"lora r16": Cost(70.0, (75.0, 80.0))}
    assert [case.right for case in cases_of(KINDS["traffic"], truth, cheap)] == ["lora r16", "lora r16"]


@needs_data
def test_no_volume_is_asked_about_where_neither_is_clearly_cheaper() -> None:
    truth = {"prompt few-shot": 0.5, "nearest 8 by words": 0.85, "lora r16": 0.9}
    alike = {name: Cost(50.0, (100.0, 120.0)) for name in truth}
    assert cases_of(KINDS["traffic"], truth, alike) == []


@needs_data
@pytest.mark.parametrize("name", KINDS)
def test_no_text_stands_in_two_parts_of_a_bed(name: str) -> None:
    texts = [{text for text, _ in rows} for rows in _parts(KINDS[name]).values()]
    assert sum(map(len, texts)) == len(set.union(*texts)) == sum(KINDS[name].sizes)


def test_a_prompt_is_searched_on_the_same_rows_whichever_part_is_measured(tmp_path: Path) -> None:
    """Else the prompt whose truth is known were another than the one that is decided on."""
    bed, learned = KINDS["replies-verbatim"], []
    for part in ("truth", "dev"):
        objective = write_kind(bed, part, {"ladder": list(bed.rungs), "kpis": [{"metric": bed.metric, "target": 0.3}]}, tmp_path / part)
        asked = SnapshotRequest(read_objective(objective).objective, tmp_path / part, MemoryArtifacts(tmp_path), {}, lambda _: None)
        learned.append({row.text for row in build_snapshot(asked).rows if row.split is Split.TRAIN})
    assert learned[0] == learned[1]
    assert len(learned[0]) > 40


def test_a_rival_answers_so_many_rows_rightly_over_http() -> None:
    answers = {f"text  number {number}": f"label {number % 4}" for number in range(200)}
    with served(answers, 0.9) as rival:
        endpoint = Endpoint(name="rival", url=rival.url, region="here", private=True)
        client = OpenAiEndpoint(endpoint, "rival-large", lambda: "")

        async def asked() -> list[HostedAnswer]:
            prompts = [[Message(role="system", content="Sort."), Message(role="user", content=text)] for text in (*answers, "another")]
            found = [await client.answer(prompt, Sampling()) for prompt in prompts]
            await client.close()
            return found

        *said, unknown = asyncio.run(asked())
    right = [one.text == answer for one, answer in zip(said, answers.values(), strict=True)]
    assert sum(right) / len(right) == pytest.approx(0.9, abs=0.05)
    assert {one.text for one in said} == set(answers.values())
    assert unknown.text == "I do not know."
    assert (said[0].model, said[0].fingerprint, said[0].prompt_tokens, said[0].completion_tokens) == ("rival-large", "rival-1", 4, 2)


@needs_data
@pytest.mark.parametrize(
    ("bed", "truth", "right"),
    [
        ("few-of-banking-24", {"floor": 0.55, "encoder": 0.85, "nearest": 0.8}, {"encoder"}),
        (
            "tickets-searched",
            {"prompt zero-shot": 0.0, "prompt few-shot": 0.2, "prompt-search 400 calls": 0.5},
            {"prompt-search 400 calls"},
        ),
        ("searched-banking-24", {"prompt zero-shot": 0.1, "prompt few-shot": 0.2, "prompt-search": 0.5}, {"prompt-search"}),
        ("searched-bitext-27", {"prompt zero-shot": 0.1, "prompt few-shot": 0.2, "prompt-search": 0.5}, {"prompt-search"}),
        ("shelves-hosted", {"floor": 0.5, "hosted zero-shot": 0.92, "hosted few-shot": 0.92}, {"hosted zero-shot"}),
        ("floor-or-hosted", {"floor": 0.93, "hosted zero-shot": 0.92, "hosted few-shot": 0.92}, {"floor"}),
    ],
)
def test_each_way_that_experts_try_is_right_where_it_is_what_it_takes(bed: str, truth: dict[str, float], right: set[str]) -> None:
    assert {case.right for case in cases_of(KINDS[bed], truth)} - {NONE} == right
