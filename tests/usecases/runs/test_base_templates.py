"""The chat template of an objective is a part of its base model: of its digest, of the run's, of the plan and of the card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from support.doubles import MemoryModelReader
from support.usecases import VIEWER, write_objective
from tailorbird.chat.templates import DEFAULT, TEMPLATES
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.runs.queries import RunReport, show_run
from tailorbird.usecases.runs.submit import adapt


class WithoutTemplate(MemoryModelReader):
    """Reads a model that has no template of its own, as the real reader does."""

    def convert(self, source: Path, target: Path) -> None:
        super().convert(source, target)
        (target / "chat_template.jinja").write_text(TEMPLATES[DEFAULT], encoding="utf-8")


def adapted(deps: Dependencies, author: Actor, path: Path) -> tuple[RunReport, BaseModelRef, str]:
    """The run, its base model, and the model card of its release."""
    told = show_run(deps, VIEWER, adapt(deps, author, path, Progress()).run.id)
    assert told.plan is not None
    assert told.conclusion.release is not None
    with deps.ledger.work("acme", write=False) as work:
        release = work.releases.get(told.conclusion.release)
        base = next(
            base
            for digest in work.records.digests(BaseModelRef)
            if (base := work.records.get(BaseModelRef, digest)).digest == release.content.base_model
        )
    assert release.content.chat_template == base.chat_template_digest
    return told, base, deps.artifacts.get(release.dossier.card).decode()


def told_of(report: RunReport) -> list[str]:
    return [finding.what for finding in report.plan.findings if finding.code == "chat_template_given"]


def test_a_base_without_a_template_is_given_the_plain_one(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    told, base, card = adapted(replace(deps, model_reader=WithoutTemplate), author, write_objective(tmp_path / "job", ladder=["prompt"]))
    assert base.chat_template == DEFAULT
    assert "no chat template of their own" in told_of(told)[0]
    assert "chat template (plain)" in card


@pytest.mark.parametrize("name", ["alpaca", "form.jinja"])
def test_a_template_that_is_asked_for_takes_its_place(name: str, deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    _, own, _ = adapted(deps, author, write_objective(tmp_path / "own", ladder=["prompt"]))
    path = write_objective(tmp_path / "job", ladder=["prompt"], chat_template=name)
    (path.parent / "form.jinja").write_text(TEMPLATES["alpaca"], encoding="utf-8")
    told, base, card = adapted(deps, author, path)
    assert (base.chat_template, base.chat_template_digest) == (name, digest_bytes(TEMPLATES["alpaca"].encode()))
    assert (deps.artifacts.get_tree(base.digest) / "chat_template.jinja").read_text(encoding="utf-8") == TEMPLATES["alpaca"]
    assert base.digest != own.digest
    assert f"the chat template {name} stands in place of their own" in told_of(told)[0]
    assert f"chat template ({name})" in card
