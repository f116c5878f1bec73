"""The encoder that is tuned for labels, from the plan to an answer, an explanation and an erasure, on twins."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from support.bases import install_encoder
from support.doubles import MemoryEngine
from support.doubles.engine import MemoryEncoder
from support.usecases import LABELS, VIEWER, write_objective
from tailorbird.chat.prompts import messages_for
from tailorbird.data import load_rows
from tailorbird.domain.dataset import Split
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.ladder import Candidate, RungKind
from tailorbird.ports.engine import LoadRequest
from tailorbird.usecases import Actor, Dependencies, Progress, admit
from tailorbird.usecases.erasure import erase
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.releases import promotion as moves
from tailorbird.usecases.releases.export import export_release
from tailorbird.usecases.releases.release_queries import show_release
from tailorbird.usecases.runs.queries import RunReport, show_run
from tailorbird.usecases.runs.submit import adapt

SILENT = Progress()


@pytest.fixture
def installed(deps: Dependencies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dependencies:
    """The workspace, with an encoder in the catalogue."""
    install_encoder(deps, tmp_path, monkeypatch)
    return replace(deps, encoder=MemoryEncoder)


def climbed(deps: Dependencies, author: Actor, path: Path) -> RunReport:
    return show_run(deps, VIEWER, adapt(deps, author, path, SILENT).run.id)


def made_of(deps: Dependencies, told: RunReport) -> Candidate:
    [climb] = [climb for climb in told.ladder.climbs if climb.rung is RungKind.ENCODER]
    with deps.ledger.work("acme", write=False) as work:
        return work.records.get(Candidate, climb.candidate)


def test_it_is_planned_measured_released_and_answers(
    installed: Dependencies, author: Actor, approver: Actor, operator: Actor, tmp_path: Path
) -> None:
    # The twin's encoder reads no words, of which the floor knows the odd rows: it passes an easier target.
    reference, kpis = {"role": "reference", "vectors": False}, [{"metric": "accuracy", "target": 0.7}]
    told = climbed(installed, author, write_objective(tmp_path / "job", ladder=["encoder"], floor=reference, kpis=kpis))
    [planned] = told.plan.rungs
    assert (planned.rung, planned.variant, planned.trains_base) == (RungKind.ENCODER, "upper layers, 4 averaged", False)
    candidate = made_of(installed, told)
    assert told.ladder.chosen == told.ladder.climbs[0].candidate
    assert candidate.floor
    assert candidate.tuned
    assert (candidate.adapter, candidate.weights) == (None, None)
    assert told.evidence.split is Split.TEST
    digest = str(told.conclusion.release)
    card = installed.artifacts.get(show_release(installed, VIEWER, digest).dossier.card).decode()
    assert "An encoder tuned for the labels, with a linear head (upper layers, 4 averaged), which asks no language model" in card
    assert "encoder tuned from mini, licence Apache-2.0" in card
    assert "base_model: mini\nbase_model_relation: finetune\n" in card
    moves.sign_and_decide(installed, approver, digest, "approve", "read")
    moves.stage(installed, operator, digest)
    assert moves.promote(installed, operator, digest).alias.targets[0].release == digest
    with pytest.raises(InvalidInput, match="is an encoder with a linear head"):
        export_release(installed, operator, digest, tmp_path / "merged", SILENT)
    servable = admit(installed, LoadRequest(tenant="acme", release=digest, purpose="production"))
    assert (servable.base, servable.adapter, servable.weights) == ("", None, None)
    engine = MemoryEngine()
    engine.load(servable)
    [found] = engine.score(digest, [messages_for(servable.prompt, "case 1 w3 w4 login")], LABELS)
    assert max(zip(found.log_probabilities, LABELS, strict=True))[1] == "login"


def test_it_is_destroyed_with_a_person_whose_rows_it_learned(installed: Dependencies, author: Actor, tmp_path: Path) -> None:
    source = {"path": "rows.csv", "subject": "who", "source": {"origin": "written for this test", "license": "Apache-2.0"}}
    path = write_objective(tmp_path / "job", data=[source], ladder=["encoder"], kpis=[{"metric": "accuracy", "target": 0.7}])
    place = path.parent / "rows.csv"
    with place.open(newline="") as file:
        header, *rows = list(csv.reader(file))
    with place.open("w", newline="") as file:
        csv.writer(file).writerows([[*header, "who"], *([*row, f"person {n // 10}"] for n, row in enumerate(rows))])
    told = climbed(installed, author, path)
    candidate = made_of(installed, told)
    assert told.manifest is not None
    learned = {row.provenance.line for row in load_rows(told.manifest, installed.artifacts, Split.TRAIN)}
    who = f"person {(min(learned) - 2) // 10}"
    certificate = erase.erase(installed, act_as(installed, "acme", "admin"), who).certificate
    assert {candidate.floor, candidate.tuned} <= set(certificate.reach.adapters)
