"""A searched prompt, from the plan to an answer, an explanation and an erasure, on twins."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from support.doubles import MemoryEngine
from support.reporting import request
from support.usecases import LABELS, VIEWER, write_objective
from tailorbird.chat.prompts import messages_for
from tailorbird.data import load_rows
from tailorbird.domain.dataset import Split
from tailorbird.domain.errors import ObjectiveInvalid
from tailorbird.domain.ladder import Candidate, Climb, Making, RungKind
from tailorbird.domain.prompt import Message, PromptSearch
from tailorbird.ports.engine import LabelScores, LoadRequest
from tailorbird.reporting.documents import Explanation, explanation_markdown
from tailorbird.usecases import Actor, Dependencies, Progress, admit
from tailorbird.usecases.erasure import erase
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.releases import promotion as moves
from tailorbird.usecases.releases.release_queries import show_release
from tailorbird.usecases.runs.queries import RunReport, show_run
from tailorbird.usecases.runs.submit import adapt, plan

SILENT = Progress()
SEARCHED = {"ladder": ["prompt-search"], "prompt_search": {"calls": 200}}


class Taught(MemoryEngine):
    """Knows nothing without demonstrations."""

    def score(self, servable: str, prompts: Sequence[Sequence[Message]], labels: Sequence[str]) -> list[LabelScores]:
        known = super().score(servable, prompts, labels)
        nothing = (-math.log(len(labels)),) * len(labels)
        return [
            one if len(prompt) > 2 else one.model_copy(update={"log_probabilities": nothing})
            for one, prompt in zip(known, prompts, strict=True)
        ]


def climbed(deps: Dependencies, author: Actor, path: Path) -> RunReport:
    return show_run(deps, VIEWER, adapt(deps, author, path, SILENT).run.id)


def searched(told: RunReport) -> Climb:
    assert told.ladder is not None
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
    assert told.plan is not None
    [planned] = told.plan.rungs
    assert (planned.rung, planned.variant, planned.calls, planned.shots, planned.training) == (
        RungKind.PROMPT_SEARCH, "200 calls", 200, 9, None,
    )  # fmt: skip
    candidate, log = made_of(deps, told)
    assert (candidate.adapter, candidate.weights, candidate.floor, candidate.retrieval) == (None, None, None, None)
    assert log.sentence in searched(told).reason
    assert (log.calls, 200) in counted
    assert told.conclusion is not None
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


def test_the_start_of_its_log_is_explained(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    _, log = made_of(deps, climbed(deps, author, write_objective(tmp_path / "job", **SEARCHED)))
    shown = explanation_markdown(Explanation(request=request(), search=log))
    assert f"the prompt was searched: {log.sentence}" in shown
    assert shown.count(" demonstrations: ") == 5
    assert shown.count("(chosen)") == 1


def test_auto_does_not_try_it(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    drafted = plan(deps, author, write_objective(tmp_path / "job", ladder="auto"), SILENT)
    assert RungKind.PROMPT_SEARCH not in {each.rung for each in (*drafted.plan.rungs, *drafted.plan.left_out)}


def test_calls_without_the_rung_are_a_fault(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    with pytest.raises(ObjectiveInvalid, match="the ladder does not list the rung prompt-search"):
        plan(deps, author, write_objective(tmp_path / "job", ladder=["prompt"], prompt_search={"calls": 200}), SILENT)


def test_more_calls_take_more_time_and_money(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    drafted = plan(deps, author, write_objective(tmp_path / "few", **SEARCHED), SILENT)
    longer = plan(deps, author, write_objective(tmp_path / "many", ladder=["prompt-search"], prompt_search={"calls": 2000}), SILENT)
    [few], [many] = drafted.plan.rungs, longer.plan.rungs
    assert few.time.likely < many.time.likely
    assert few.money.likely < many.money.likely


def test_an_erasure_finds_the_prompt_and_its_log(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    source = {"path": "rows.csv", "subject": "who", "source": {"origin": "written for this test", "license": "Apache-2.0"}}
    # No release needs it: dev passes nothing.
    kpis = [{"metric": "accuracy", "target": 0.7}]
    path = write_objective(tmp_path / "job", hard_share=2, data=[source], kpis=kpis, **SEARCHED)  # type: ignore[arg-type]
    place = path.parent / "rows.csv"
    with place.open(newline="") as file:
        header, *rows = list(csv.reader(file))
    with place.open("w", newline="") as file:
        csv.writer(file).writerows([[*header, "who"], *([*row, f"person {n // 10}"] for n, row in enumerate(rows))])
    taught = Taught()
    deps = replace(deps, engine=lambda: taught)
    told = climbed(deps, author, path)
    candidate, _ = made_of(deps, told)
    assert told.manifest is not None
    lines = {row.id: row.provenance.line for row in load_rows(told.manifest, deps.artifacts, Split.TRAIN)}
    shown = candidate.prompt.demonstrations[0].row_id
    certificate = erase.erase(deps, act_as(deps, "acme", "admin"), f"person {(lines[shown] - 2) // 10}").certificate
    assert searched(told).candidate in certificate.forgotten
    with deps.ledger.work("acme", write=False) as work:
        assert work.records.digests(PromptSearch) == ()
        assert work.records.digests(Making)
