"""Files of a training: those of a finished training with the same fingerprint, or else of one that is run now."""

from __future__ import annotations

import time
from collections.abc import Callable

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.ports.trainer import Job, TrainedModel
from tailorbird.rungs.context import RungContext, TrainedFiles


def trained_files(context: RungContext, job: Job, train: Callable[[], TrainedModel]) -> TrainedFiles:
    """Reuses a training where there is one, else runs ``train`` and stores its files. Raises what the trainer raises."""
    started, fingerprint = time.perf_counter(), context.trainer().fingerprint(job)
    found = context.reusable(fingerprint, job)
    if found is None:
        trained = train()
        tree = context.artifacts.put_tree(trained.folder)
        return TrainedFiles(tree, trained.folder, trained.report, fingerprint, trained.report.seconds)
    report = found.report.model_copy(update={"settings": digest_of(job.settings), "snapshot": job.snapshot})
    return TrainedFiles(found.stored.tree, found.folder, report, fingerprint, time.perf_counter() - started, found.stored)
