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
from tailorbird.crypto.canonical_json import short
from tailorbird.data import load_rows
from tailorbird.domain.dataset import Split
from tailorbird.domain.errors import Exhausted, InvalidInput
from tailorbird.domain.ladder import Candidate, RungKind
from tailorbird.ports.engine import LoadRequest
from tailorbird.reporting.tables import release_summary
from tailorbird.text.label_rules import decide_label, join
from tailorbird.usecases import Actor, Dependencies, Progress, admit
from tailorbird.usecases.erasure import erase
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.releases import promotion as moves
from tailorbird.usecases.releases.export import export_release
from tailorbird.usecases.releases.release_queries import show_release
from tailorbird.usecases.runs.queries import RunReport, show_run
from tailorbird.usecases.runs.submit import adapt, plan

SILENT = Progress()


@pytest.fixture
def installed(deps: Dependencies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dependencies:
    """The workspace, with an encoder in the catalogue."""
    install_encoder(deps, tmp_path, monkeypatch)
    return replace(deps, encoder=MemoryEncoder)


def climbed(deps: Dependencies, author: Actor, path: Path) -> RunReport:
    return show_run(deps, VIEWER, adapt(deps, author, path, SILENT).run.id)


def made_of(deps: Dependencies, told: RunReport) -> Candidate:
    assert told.ladder is not None
    [climb] = [climb for climb in told.ladder.climbs if climb.rung is RungKind.ENCODER]
    with deps.ledger.work("acme", write=False) as work:
        return work.records.get(Candidate, climb.candidate)


def test_it_is_planned_measured_released_and_answers(
    installed: Dependencies, author: Actor, approver: Actor, operator: Actor, tmp_path: Path
) -> None:
    # The twin's encoder reads no words, of which the floor knows the odd rows: it passes an easier target.
    reference, kpis = {"role": "reference", "vectors": False}, [{"metric": "accuracy", "target": 0.7}]
    told = climbed(installed, author, write_objective(tmp_path / "job", ladder=["encoder"], floor=reference, kpis=kpis))
    assert told.plan is not None
    [planned] = told.plan.rungs
    assert (planned.rung, planned.variant, planned.trains_base) == (RungKind.ENCODER, "upper layers, 4 averaged", False)
    assert told.ladder is not None
    candidate = made_of(installed, told)
    assert told.ladder.chosen == told.ladder.climbs[0].candidate
    assert candidate.floor
    assert candidate.tuned
    assert (candidate.adapter, candidate.weights) == (None, None)
    assert told.evidence is not None
    assert told.evidence.split is Split.TEST
    assert told.conclusion is not None
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


def test_an_adapter_is_released_with_the_encoder_that_all_share(
    installed: Dependencies, author: Actor, approver: Actor, operator: Actor, tmp_path: Path
) -> None:
    reference, kpis = {"role": "reference", "vectors": False}, [{"metric": "accuracy", "target": 0.7}]
    wishes = {"ladder": ["encoder"], "encoder": {"method": "lora"}}
    told = climbed(installed, author, write_objective(tmp_path / "job", floor=reference, kpis=kpis, **wishes))
    assert told.plan is not None
    [planned] = told.plan.rungs
    candidate = made_of(installed, told)
    assert (planned.variant, candidate.encoder) == ("r16, upper layers, 4 averaged", planned.encoder)
    assert told.conclusion is not None
    digest = str(told.conclusion.release)
    shown = show_release(installed, VIEWER, digest)
    assert shown.content.encoder == planned.encoder
    assert f"encoder   {short(str(planned.encoder))}" in release_summary(shown)
    card = installed.artifacts.get(shown.dossier.card).decode()
    assert "An adapter of an encoder, tuned for the labels, with a linear head (r16, upper layers, 4 averaged)" in card
    assert "base_model: mini\nbase_model_relation: adapter\n" in card
    moves.sign_and_decide(installed, approver, digest, "approve", "read")
    moves.stage(installed, operator, digest)
    servable = admit(installed, LoadRequest(tenant="acme", release=digest, purpose="production"))
    assert servable.encoder == str(installed.artifacts.get_tree(str(planned.encoder)))
    assert {path.name for path in Path(servable.floor or "").iterdir()} >= {"adapter", "floor.json"}
    assert not (Path(servable.floor or "") / "encoder").exists()


def test_it_is_compared_in_pairs_with_the_floor_and_a_tie_goes_to_the_cheaper(
    installed: Dependencies, author: Actor, tmp_path: Path
) -> None:
    told = climbed(installed, author, write_objective(tmp_path / "job", ladder=["floor", "encoder"]))
    assert told.ladder is not None
    assert told.ladder.floor is not None
    [climb] = told.ladder.climbs
    assert climb.against_below is not None
    assert climb.against_below.lower == told.ladder.floor.candidate
    assert told.ladder.chosen == told.ladder.floor.candidate


def test_auto_tries_it(installed: Dependencies, author: Actor, tmp_path: Path) -> None:
    drafted = plan(installed, author, write_objective(tmp_path / "job", ladder="auto"), SILENT)
    assert {RungKind.ENCODER, RungKind.LORA} <= {rung.rung for rung in drafted.plan.rungs}


def test_without_an_encoder_it_is_left_out_with_the_reason(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    with pytest.raises(Exhausted, match="encoder upper layers, 4 averaged: no encoder is installed"):
        plan(deps, author, write_objective(tmp_path / "job", ladder=["encoder"]), SILENT)
    drafted = plan(deps, author, write_objective(tmp_path / "both", ladder=["encoder", "prompt"]), SILENT)
    assert [(each.name, each.reason.partition(" (")[0]) for each in drafted.plan.left_out] == [
        ("encoder upper layers, 4 averaged", "no encoder is installed")
    ]


def test_a_finished_tuning_is_reused(installed: Dependencies, author: Actor, tmp_path: Path) -> None:
    path = write_objective(tmp_path / "job", ladder=["encoder"])
    first = climbed(installed, author, path)
    path.write_text(path.read_text().replace("target: 0.8", "target: 0.75"))
    again = climbed(installed, author, path)
    assert again.run.id != first.run.id
    assert again.ladder is not None
    reused = again.ladder.climbs[0].reused
    assert reused is not None
    assert reused.run == first.run.id
    assert made_of(installed, again).tuned == made_of(installed, first).tuned


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


def test_with_several_labels_an_item_it_gives_each_by_itself(
    installed: Dependencies, author: Actor, approver: Actor, operator: Actor, tmp_path: Path
) -> None:
    task = {"kind": "classify", "labels": "many", "instruction": "Say what it is about."}
    kpis = [{"metric": "micro_f1", "target": 0.8}]
    path = write_objective(tmp_path / "job", task=task, kpis=kpis, ladder=["encoder"])
    with (path.parent / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(750):
            borne = [label for place, label in enumerate(LABELS) if number >> place & 1]
            words = " ".join(f"w{number * factor % 9973}" for factor in (31, 577, 1009, 4001))
            writer.writerow([f"case {number * 7919 % 100003} {words} {' '.join(borne)}", join(borne)])
    told = climbed(installed, author, path)
    assert told.evidence is not None
    assert told.evidence.split is Split.TEST
    assert told.evidence.metrics["micro_f1"].value > 0.9
    assert told.conclusion is not None
    digest = str(told.conclusion.release)
    moves.sign_and_decide(installed, approver, digest, "approve", "read")
    moves.stage(installed, operator, digest)
    servable = admit(installed, LoadRequest(tenant="acme", release=digest, purpose="staging"))
    assert servable.prompt.alone
    engine = MemoryEngine()
    engine.load(servable)
    [found] = engine.score(digest, [messages_for(servable.prompt, "case 1 w3 w4 login and a refund")], servable.prompt.answers)
    assert decide_label(servable.prompt, found.log_probabilities).answer == "login | refund"
