"""Fingerprint of a training: equal where the bytes would be, and only there."""

from __future__ import annotations

from support.training_samples import PROMPT, MakeJob, examples
from tailorbird.training import open_trainer

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
