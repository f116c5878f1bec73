"""A hosted model as a rung: measured on the same items, paid for, within a budget, and never sent what may not leave."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from support.doubles import MemoryEndpoint
from support.hosted import MODEL, NAMED, SECTION, allow, endpoint, hosting, last_word, register
from support.usecases import write_objective
from tailorbird.domain.endpoint import HostedModel
from tailorbird.domain.errors import Conflict, ObjectiveInvalid
from tailorbird.domain.ladder import Candidate, Climb, Ladder, RungKind
from tailorbird.domain.prompt import Message
from tailorbird.domain.run import RunState
from tailorbird.ports.engine import LoadRequest
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.endpoints import served_endpoint
from tailorbird.usecases.releases.load_verification import admit_hosted
from tailorbird.usecases.releases.rules import verify_release
from tailorbird.usecases.runs import submit as climbing
from tailorbird.usecases.runs.engine import WorkedRun, work_on


def adapt(deps: Dependencies, author: Actor, path: Path) -> Ladder:
    return ladder_of(deps, climbing.adapt(deps, author, path, Progress()))


def ladder_of(deps: Dependencies, worked: WorkedRun) -> Ladder:
    with deps.ledger.work("acme", write=False) as work:
        return work.records.get(Ladder, worked.conclusion.ladder)


def hosted_climb(ladder: Ladder, variant: str = "zero-shot") -> Climb:
    return next(climb for climb in ladder.climbs if climb.rung is RungKind.HOSTED and climb.variant == variant)


def sent(deps: Dependencies) -> list[dict[str, object]]:
    with deps.ledger.work("acme", write=False) as work:
        return [dict(entry.event.data) for entry in work.events.entries() if entry.event.kind == "data.sent"]


def outside(deps: Dependencies, client: MemoryEndpoint | None = None, **changes: object) -> tuple[Dependencies, MemoryEndpoint]:
    """A workspace whose tenant may use the endpoint, and what answers there."""
    client = client or MemoryEndpoint(last_word, model=MODEL, fingerprint="fp_1")
    deps = hosting(deps, client)
    register(deps, endpoint(**changes))
    allow(deps, "outside")
    return deps, client


def failures(ladder: Ladder) -> list[str]:
    return [refusal.reason for refusal in ladder.refused if refusal.rung is RungKind.HOSTED]


def test_it_is_measured_on_the_same_items_and_paid_for(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    deps, client = outside(deps)
    path = write_objective(tmp_path / "job", ladder=["prompt", "hosted"], **NAMED)
    ladder = adapt(deps, author, path)
    found = hosted_climb(ladder).evidence
    assert found.n == ladder.climbs[0].evidence.n
    assert (found.hosted.reported, found.hosted.fingerprints) == ((MODEL,), ("fp_1",))
    read, written = found.hosted.prompt_tokens, found.hosted.completion_tokens
    assert found.hosted.money == pytest.approx((2 * read + 8 * written) / 1e6)
    assert hosted_climb(ladder).money > found.hosted.money  # making it was paid, too
    tokens = found.metrics["tokens_per_request"].value
    assert found.metrics["cost_per_1k_requests"].value == pytest.approx((2 * (tokens - 1) + 8) / 1e3, rel=0.05)
    assert hosted_climb(ladder).against_below is not None
    assert client.closed


def test_what_is_sent_is_written_first(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    deps, _ = outside(deps)
    ladder = adapt(deps, author, write_objective(tmp_path / "job", ladder=["hosted"], **NAMED))
    told = sent(deps)
    assert [each["split"] for each in told[:3]] == ["train", "dev", "train"]
    assert {each["url"] for each in told} == {"https://llm.example"}
    assert {each["region"] for each in told} == {"EU (Example Ltd)"}
    assert told[1]["rows"] == ladder.climbs[0].evidence.n
    # The sealed test is shown to the chosen candidate alone, and it stays on record that it was.
    assert ladder.chosen is not None
    assert [each["split"] for each in told].count("test") == 1


def test_another_model_than_was_asked_for(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    deps, client = outside(deps, MemoryEndpoint(last_word, model="tiny"))
    path = write_objective(tmp_path / "job", ladder=["prompt", "hosted"], **NAMED)
    ladder = adapt(deps, author, path)
    assert any("invalid_input" in reason for reason in failures(ladder))
    assert len(client.asked) == 2, "only the instruction was sent, once a variant"
    accepted = NAMED | {"hosted": SECTION | {"reported": "tiny"}}
    ladder = adapt(deps, author, write_objective(tmp_path / "job", ladder=["prompt", "hosted"], **accepted))
    assert hosted_climb(ladder).evidence.hosted is not None


def test_a_model_that_changes_while_it_is_measured(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    client = MemoryEndpoint(last_word, model=MODEL)

    def changing(prompt: Sequence[Message]) -> str:
        client.model = MODEL if len(client.asked) < 20 else f"{MODEL}-next"
        return last_word(prompt)

    client.answering = changing
    deps, _ = outside(deps, client)
    ladder = adapt(deps, author, write_objective(tmp_path / "job", ladder=["prompt", "hosted"], **NAMED))
    assert any("endpoint_model_changed" in reason for reason in failures(ladder))


@pytest.mark.parametrize("first", [True, False])
def test_what_a_filter_refuses_says_nothing_of_who_answers(deps: Dependencies, author: Actor, tmp_path: Path, first: bool) -> None:
    """A refusal before the model names none: it is a wrong answer, not another model; whichever request it meets."""
    client = MemoryEndpoint(last_word, model=MODEL)
    client.answering = lambda prompt: None if len(client.asked) % 5 == (1 if first else 3) else last_word(prompt)
    deps, _ = outside(deps, client)
    ladder = adapt(deps, author, write_objective(tmp_path / "job", ladder=["prompt", "hosted"], **NAMED))
    for variant in ("zero-shot", "few-shot"):
        found = hosted_climb(ladder, variant).evidence
        assert found.hosted.reported == (MODEL,)
        assert 0 < found.hosted.refused < found.hosted.requests / 3
        assert 0.5 < found.metrics["accuracy"].value < 1
    with deps.ledger.work("acme", write=False) as work:
        candidate = work.records.get(Candidate, hosted_climb(ladder).candidate)
    assert candidate.hosted.reported == MODEL


@pytest.mark.parametrize("missing", ["endpoint", "policy", "terms", "terms of documents"])
def test_nothing_leaves_the_house_unless_all_three_agree(deps: Dependencies, author: Actor, tmp_path: Path, missing: str) -> None:
    client = MemoryEndpoint(last_word, model=MODEL)
    deps = hosting(deps, client)
    if missing != "endpoint":
        register(deps)
    if missing != "policy":
        allow(deps, "outside")
    changes: dict[str, Any] = dict(NAMED)
    closed = {"origin": "written for this test", "license": "Apache-2.0"}
    if missing == "terms":
        changes["data"] = [{"path": "rows.csv", "source": closed}]
    if missing == "terms of documents":
        changes["documents"] = [{"path": "rows.csv", "id": "text", "source": closed}]
    path = write_objective(tmp_path / "job", ladder=["prompt", "hosted"], **changes)
    with pytest.raises(ObjectiveInvalid) as refused:
        climbing.adapt(deps, author, path, Progress())
    codes = {"endpoint": "endpoint_missing", "policy": "endpoint_not_allowed"}
    assert refused.value.error_code == codes.get(missing, "terms_forbid")
    assert refused.value.line > 0
    assert client.asked == []


def test_a_policy_that_is_taken_back_meanwhile(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    deps, client = outside(deps)
    path = write_objective(tmp_path / "job", ladder=["prompt", "hosted"], **NAMED)
    climbing.plan(deps, author, path, Progress())
    run = climbing.submit(deps, author, path, RunState.ACTIVE)
    allow(deps)
    worked = work_on(deps, author, run, Progress())
    assert any("endpoint_not_allowed" in reason for reason in failures(ladder_of(deps, worked)))
    assert client.asked == []


def test_it_is_released_with_whom_it_asks(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    deps, _ = outside(deps)
    worked = climbing.adapt(deps, author, write_objective(tmp_path / "job", ladder=["hosted"], **NAMED), Progress())
    assert worked.conclusion.release is not None
    with deps.ledger.work("acme", write=False) as work:
        release = work.releases.get(worked.conclusion.release)
    assert release.content.hosted == HostedModel(endpoint="outside", url="https://llm.example", model=MODEL, reported=MODEL)
    card = deps.artifacts.get(release.dossier.card).decode()
    assert f"`{MODEL}` at the endpoint `outside`" in card
    assert "under the fingerprint fp" in card.replace("\\", "")
    assert "base model" not in card.split("## Provenance")[1]
    verify_release(release, {author.name: author.identity})


def test_a_release_is_admitted_only_to_the_address_that_was_measured(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    deps, _ = outside(deps)
    worked = climbing.adapt(deps, author, write_objective(tmp_path / "job", ladder=["hosted"], **NAMED), Progress())
    assert worked.conclusion.release is not None
    request = LoadRequest(tenant="acme", release=worked.conclusion.release, purpose="staging")
    servable = admit_hosted(deps, request)
    assert servable.hosted is not None
    assert servable.base == ""
    assert served_endpoint(deps, "acme", servable.hosted).url == "https://llm.example"
    register(deps, endpoint(url="https://other.example"))
    with pytest.raises(Conflict) as refused:
        served_endpoint(deps, "acme", servable.hosted)
    assert refused.value.error_code == "endpoint_changed"
