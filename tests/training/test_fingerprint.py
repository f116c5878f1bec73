"""Fingerprint of a training: equal where the bytes would be, and only there."""

from __future__ import annotations

import pytest

from support.training_samples import PROMPT, MakeJob, examples
from tailorbird.ports.trainer import JudgedQuery, RankingJob
from tailorbird.training import open_trainer
from tailorbird.training.trainer import TorchTrainer

OTHER = "sha256:" + "9" * 64


def test_places_names_and_an_allowance_that_was_not_needed_change_nothing(make_job: MakeJob) -> None:
    trainer, job = open_trainer(), make_job()
    for same in (make_job(workspace="elsewhere"), make_job(snapshot=OTHER), make_job(waiting_epochs=2)):
        assert trainer.fingerprint(same) == trainer.fingerprint(job)


def test_all_that_the_bytes_depend_on_changes_it(make_job: MakeJob) -> None:
    trainer = open_trainer()
    jobs = (
        make_job(),
        make_job("full"),
        make_job(seed=5),
        make_job(epochs=3),
        make_job(threads=7),
        make_job(precision="bf16"),
        make_job(base_digest=OTHER),
        make_job(prompt=PROMPT.model_copy(update={"instruction": "Another one."})),
        make_job(train=examples(21)),
        make_job(held_out=examples(31)[22:]),
    )
    assert len({trainer.fingerprint(job) for job in jobs}) == len(jobs)


def test_other_code_and_another_number_of_processes_change_it(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job()
    before = open_trainer().fingerprint(job)
    assert TorchTrainer(processes=2).fingerprint(job) != before
    monkeypatch.setattr("tailorbird.training.trainer.code_digest", lambda: OTHER)
    assert open_trainer().fingerprint(job) != before


def test_an_index_is_told_by_its_digest(make_job: MakeJob) -> None:
    job = make_job()
    ranking = RankingJob(
        kind="bi-encoder",
        base=job.base,
        base_digest=job.base_digest,
        snapshot=job.snapshot,
        settings=job.settings,
        index=job.base,
        train=(JudgedQuery(text="q", relevant={"d": 1.0}),),
        held_out=(),
        workspace=job.workspace,
        index_digest=OTHER,
    )
    trainer = open_trainer()
    elsewhere = ranking.model_copy(update={"index": job.workspace})
    assert trainer.fingerprint(elsewhere) == trainer.fingerprint(ranking)
    assert trainer.fingerprint(ranking.model_copy(update={"index_digest": job.base_digest})) != trainer.fingerprint(ranking)
