"""A release leaves the house signed, approved, whole, and told of."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from support.doubles import MemoryEndpoint, MemoryTrainer
from support.hosted import MODEL, NAMED, allow, hosting, last_word, register
from support.usecases import VIEWER, write_objective
from tailorbird.domain.errors import Corrupt, Forbidden, InvalidInput, NotFound
from tailorbird.domain.release import Release
from tailorbird.ports.trainer import Merged, MergeJob
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.releases.export import ExportForm, export_release
from tailorbird.usecases.releases.promotion import sign_and_decide
from tailorbird.usecases.releases.release_queries import show_release
from tailorbird.usecases.runs.submit import adapt


def released(deps: Dependencies, author: Actor, folder: Path, *ladder: str) -> Release:
    worked = adapt(deps, author, write_objective(folder, ladder=list(ladder)), Progress())
    assert worked.conclusion.release is not None
    return show_release(deps, VIEWER, worked.conclusion.release)


def approved(deps: Dependencies, author: Actor, approver: Actor, folder: Path, *ladder: str) -> Release:
    return sign_and_decide(deps, approver, released(deps, author, folder, *ladder).digest, "approve", "measured")


def test_an_adapter_is_merged_and_told_of(deps: Dependencies, author: Actor, approver: Actor, operator: Actor, tmp_path: Path) -> None:
    release = approved(deps, author, approver, tmp_path / "job", "lora")
    target = tmp_path / "out" / "model"
    exported = export_release(deps, operator, release.digest[:20], target, Progress())
    assert exported.merged == Merged(positions=6, mean_kl=0.0, max_kl=0.0, dtype="float32")
    assert set(exported.files) == {"README.md", "config.json", "tailorbird.json"}
    assert json.loads((target / "tailorbird.json").read_text())["content"]["prompt"]["labels"] == ["delivery", "login", "refund"]
    assert (target / "README.md").read_bytes() == deps.artifacts.get(release.dossier.card)
    assert [path.name for path in target.parent.iterdir()] == ["model"]
    with deps.ledger.work("acme", write=False) as work:
        (event,) = [entry.event for entry in work.events.about(release.digest) if entry.event.kind == "release.exported"]
    assert (event.actor, event.data["merged"]) == ("operator", True)


def test_of_a_hosted_model_nothing_leaves(deps: Dependencies, author: Actor, approver: Actor, operator: Actor, tmp_path: Path) -> None:
    """Its weights are not here: without a base, a copy would be one of the folder that this process stands in."""
    deps = hosting(deps, MemoryEndpoint(last_word, model=MODEL))
    register(deps)
    allow(deps, "outside")
    worked = adapt(deps, author, write_objective(tmp_path / "job", ladder=["hosted"], **NAMED), Progress())
    assert worked.conclusion.release is not None
    sign_and_decide(deps, approver, worked.conclusion.release, "approve", "measured")
    form = ExportForm()
    with pytest.raises(InvalidInput, match="hosted model") as caught:
        export_release(deps, operator, worked.conclusion.release, tmp_path / "out" / "model", Progress(), form)
    assert caught.value.error_code == "export_nothing"
    assert not (tmp_path / "out").exists()


def test_without_approval_or_role_nothing_leaves(deps: Dependencies, author: Actor, operator: Actor, tmp_path: Path) -> None:
    release = released(deps, author, tmp_path / "job", "lora")
    for actor, code in ((author, "role_missing"), (operator, "not_approved")):
        with pytest.raises(Forbidden) as caught:
            export_release(deps, actor, release.digest, tmp_path / "model", Progress())
        assert caught.value.error_code == code
    with pytest.raises(NotFound):
        export_release(deps, operator, "f" * 20, tmp_path / "model", Progress())
    assert not (tmp_path / "model").exists()


class Careless(MemoryTrainer):
    """Merges, and finds that the result differs."""

    def merge(self, job: MergeJob) -> Merged:
        super().merge(job)
        raise Corrupt("it differs", "do not use it", code="corrupt")


def test_a_model_that_differs_is_not_left_there(
    deps: Dependencies, author: Actor, approver: Actor, operator: Actor, tmp_path: Path
) -> None:
    release = approved(deps, author, approver, tmp_path / "job", "lora")
    with pytest.raises(Corrupt):
        export_release(replace(deps, trainer=Careless), operator, release.digest, tmp_path / "out" / "model", Progress())
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(("part", "file"), [("merged", "model.gguf"), ("base", "base.gguf")])
def test_each_part_as_gguf_with_its_licence_and_told_of(
    part: str, file: str, deps: Dependencies, author: Actor, approver: Actor, operator: Actor, tmp_path: Path
) -> None:
    release = approved(deps, author, approver, tmp_path / "job", "lora")
    form = ExportForm.model_validate({"format": "gguf", "part": part})
    exported = export_release(deps, operator, release.digest, tmp_path / "out", Progress(), form)
    assert set(exported.files) == {file, "README.md", "tailorbird.json"}
    assert (exported.merged is not None) == (part == "merged")
    assert exported.gguf.name == file
    given = json.loads((tmp_path / "out" / file).read_text())
    assert given["source"] == (["config.json"] if part == "merged" else sorted(p.name for p in base_folder(deps, release).iterdir()))
    assert given["facts"]["general.license"] == json.loads((tmp_path / "out" / "tailorbird.json").read_text())["base_model"]["license"]
    assert given["facts"].get("tailorbird.release") == (None if part == "base" else release.digest)
    with deps.ledger.work("acme", write=False) as work:
        (event,) = [entry.event for entry in work.events.about(release.digest) if entry.event.kind == "release.exported"]
    assert (event.data["format"], event.data["part"], event.data["precision"]) == ("gguf", part, "held")


def base_folder(deps: Dependencies, release: Release) -> Path:
    return deps.artifacts.get_tree(release.content.base_model)
