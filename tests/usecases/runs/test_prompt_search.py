"""A searched prompt, from the plan to an answer, an explanation and an erasure, on twins."""

from __future__ import annotations

from pathlib import Path

from support.doubles import MemoryEngine
from support.usecases import LABELS, VIEWER, write_objective
from tailorbird.chat.prompts import messages_for
from tailorbird.domain.ladder import Candidate, Climb, RungKind
from tailorbird.domain.prompt import PromptSearch
from tailorbird.ports.engine import LoadRequest
from tailorbird.usecases import Actor, Dependencies, Progress, admit
from tailorbird.usecases.releases import promotion as moves
from tailorbird.usecases.releases.release_queries import show_release
from tailorbird.usecases.runs.queries import RunReport, show_run
from tailorbird.usecases.runs.submit import adapt

SEARCHED = {"ladder": ["prompt-search"], "prompt_search": {"calls": 200}}


def searched(told: RunReport) -> Climb:
    [climb] = [climb for climb in told.ladder.climbs if climb.rung is RungKind.PROMPT_SEARCH]
    return climb


def made_of(deps: Dependencies, told: RunReport) -> tuple[Candidate, PromptSearch]:
    climb = searched(told)
    assert climb.search is not None
    with deps.ledger.work("acme", write=False) as work:
        return work.records.get(Candidate, climb.candidate), work.records.get(PromptSearch, climb.search)


def test_it_is_planned_measured_released_and_answers(
    deps: Dependencies, author: Actor, approver: Actor, operator: Actor, tmp_path: Path
) -> None:
    counted = list[tuple[int, int]]()
    path = write_objective(tmp_path / "job", **SEARCHED)
    run = adapt(deps, author, path, Progress(count=lambda done, total: counted.append((done, total)))).run
    told = show_run(deps, VIEWER, run.id)
    [planned] = told.plan.rungs
    assert (planned.rung, planned.variant, planned.calls, planned.shots, planned.training) == (
        RungKind.PROMPT_SEARCH, "200 calls", 200, 9, None,
    )  # fmt: skip
    candidate, log = made_of(deps, told)
    assert (candidate.adapter, candidate.weights, candidate.floor, candidate.retrieval) == (None, None, None, None)
    assert log.sentence in searched(told).reason
    assert (log.calls, 200) in counted
    digest = str(told.conclusion.release)
    card = deps.artifacts.get(show_release(deps, VIEWER, digest).dossier.card).decode()
    assert "(rung prompt-search, variant 200 calls)" in card
    assert f"{len(candidate.prompt.demonstrations)} training rows are shown in the prompt" in card
    moves.sign_and_decide(deps, approver, digest, "approve", "read")
    moves.stage(deps, operator, digest)
    assert moves.promote(deps, operator, digest).alias.targets[0].release == digest
    servable = admit(deps, LoadRequest(tenant="acme", release=digest, purpose="production"))
    assert servable.prompt == candidate.prompt
    engine = MemoryEngine()
    engine.load(servable)
    [found] = engine.score(digest, [messages_for(servable.prompt, "case 1 w3 w4 login")], LABELS)
    assert max(zip(found.log_probabilities, LABELS, strict=True))[1] == "login"
