"""In-memory trainer, which learns nothing and reports a falling loss."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from support.doubles.engine import WIDTH, MemoryEncoder
from tailorbird.crypto.canonical_json import digest_of, plain_json
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.plan import Calibration, Examination, Machine, PassLayout, PreflightFinding, PreflightSeverity, ShownToken, TimedPass
from tailorbird.domain.run import TrainingProgress, TrainingReport
from tailorbird.domain.value import Digest
from tailorbird.ports.trainer import (
    EncoderJob,
    Example,
    Job,
    LabelJob,
    Merged,
    MergeJob,
    ReportProgress,
    TrainedModel,
    TrainingJob,
)
from tailorbird.text.label_rules import LabelPrototypes, write_left_out, write_prototypes


class MemoryTrainer:
    """A ``Trainer`` whose result depends on the job alone."""

    def fingerprint(self, job: Job) -> Digest:
        """Of the job alone."""
        plain = plain_json(job.model_copy(update={"settings": job.settings.model_copy(update={"waiting_epochs": 0})}))
        left_out = ("base", "index", "workspace", "snapshot")
        return digest_of({name: value for name, value in plain.items() if name not in left_out})

    def train(self, job: TrainingJob, report: ReportProgress) -> TrainedModel:
        """Writes the folder and reports each step. Raises InvalidInput when there is nothing to learn from."""
        if not job.train:
            raise InvalidInput("the training job has no example", "give at least one training row", code="train_empty")
        history = tuple(_progress(job, step) for step in range(1, _steps(job) + 1))
        for line in history:
            report(line)
        folder = (job.results or job.workspace) / "trained"
        folder.mkdir(parents=True, exist_ok=True)
        name = "config.json" if job.settings.method == "full" else "adapter_config.json"
        content = {"settings": digest_of(job.settings), "snapshot": job.snapshot, "base_model": job.base_digest, "examples": len(job.train)}
        (folder / name).write_text(json.dumps(content, sort_keys=True), encoding="utf-8")
        return TrainedModel(folder=folder, report=_report(job, history))

    def tune(self, job: EncoderJob, report: ReportProgress) -> TrainedModel:
        """Writes a folder that depends on the job alone, with prototypes: where a text may bear several labels they tell nothing."""
        line = TrainingProgress(
            step=1, steps=1, loss=1.0, held_out_loss=1.0, learning_rate=0.0, tokens=0, tokens_per_second=0.0, memory_gb=0.1, seconds=0.01
        )
        report(line)
        folder = (job.results or job.workspace) / "tuned"
        folder.mkdir(parents=True, exist_ok=True)
        name = "adapter_config.json" if job.settings.lora else "config.json"
        (folder / name).write_text(json.dumps({"settings": digest_of(job.settings), "rows": len(job.train)}), encoding="utf-8")
        if isinstance(job, LabelJob) and job.parts:
            _write_prototypes(job, folder)
        elif isinstance(job, LabelJob):
            write_prototypes(LabelPrototypes(np.zeros((len(job.labels), WIDTH)), np.zeros(len(job.labels))), folder)
        found = TrainingReport(
            settings=digest_of(job.settings),
            snapshot=job.snapshot,
            base_model=job.base_digest,
            steps=1,
            best_step=1,
            best_held_out_loss=1.0,
            first_held_out_loss=1.0,
            history=(line,),
            trained_parameters=1,
            tokens=0,
            loss_tokens=0,
            seconds=0.01,
            peak_memory_gb=0.1,
            flops=0.0,
            environment={"trainer": "memory/1"},
        )
        return TrainedModel(folder=folder, report=found)

    def examine(self, job: TrainingJob) -> Examination:
        """Counts words as tokens, and blocks a job that has rows without an answer."""
        empty = sum(not example.target.strip() for example in job.train)
        what = f"{empty} of {len(job.train)} answers have no tokens"
        found = (
            [PreflightFinding(code="answer_empty", severity=PreflightSeverity.BLOCKING, what=what, remedy="give every row an answer")]
            if empty
            else []
        )
        return Examination(
            findings=tuple(found),
            first_batch=tuple(_shown(example) for example in job.train[: job.settings.batch_size]),
            measured={"rows": len(job.train)},
        )

    def calibrate(self, job: TrainingJob, machine: str, efficiency: float = 0.0) -> Calibration:
        """A machine that takes a millisecond a token, whatever the method, and is always quiet."""
        del efficiency
        passes = tuple(
            TimedPass(tokens=n, pairs=n * n // 2, answers=n // 4, seconds=n / 1000, forward_seconds=n / 3000, peak_gb=1.0 + n / 1000)
            for n in (100, 400)
        )
        return Calibration(
            machine=machine,
            base_model=job.base_digest,
            settings=job.settings,
            measured_at=datetime(2026, 1, 1, tzinfo=UTC),
            passes=passes,
            update_seconds=0.01,
            read_seconds=0.1,
            write_mb_s=100.0,
            process_gb=0.4,
            held_gb=0.6,
            trained_parameters=1000,
        )

    def merge(self, job: MergeJob) -> Merged:
        """Writes what was merged into what, and finds no difference."""
        found = {"base": sorted(path.name for path in job.base.iterdir()), "adapter": sorted(path.name for path in job.adapter.iterdir())}
        (job.target / "config.json").write_text(json.dumps(found, sort_keys=True), encoding="utf-8")
        return Merged(positions=len(job.probes), mean_kl=0.0, max_kl=0.0, dtype="float32")

    def row_layout(self, source: Path, longest: int) -> PassLayout:
        """Every row is packed."""
        del source, longest
        return "packed"

    def measure_machine(self) -> Machine:
        """A machine of two cores and 8 GiB."""
        return Machine(cores=2, memory_gb=8.0, fp32_gflops=100.0, bf16_gflops=200.0, fast_bf16=True)


def _shown(example: Example) -> tuple[ShownToken, ...]:
    read = [ShownToken(text=word, learned=False) for word in example.text.split()]
    return (*read, *(ShownToken(text=word, learned=True) for word in example.target.split()))


def _steps(job: TrainingJob) -> int:
    return job.settings.epochs * math.ceil(len(job.train) / job.settings.batch_size)


def _tokens(job: TrainingJob) -> int:
    return sum(len(example.text.split()) + len(example.target.split()) for example in job.train)


def _progress(job: TrainingJob, step: int) -> TrainingProgress:
    steps = _steps(job)
    loss = 3.0 / (1.0 + step)
    return TrainingProgress(
        step=step,
        steps=steps,
        loss=loss,
        held_out_loss=loss * 1.1 if job.held_out else None,
        learning_rate=job.settings.learning_rate * (1 - step / (steps + 1)),
        tokens=_tokens(job) * job.settings.epochs * step // steps,
        tokens_per_second=1000.0,
        memory_gb=0.1,
        seconds=0.01 * step,
    )


def _report(job: TrainingJob, history: tuple[TrainingProgress, ...]) -> TrainingReport:
    first, last = history[0], history[-1]
    return TrainingReport(
        settings=digest_of(job.settings),
        snapshot=job.snapshot,
        base_model=job.base_digest,
        steps=last.steps,
        best_step=last.step,
        best_held_out_loss=last.held_out_loss or last.loss,
        first_held_out_loss=first.held_out_loss or first.loss,
        history=history,
        trained_parameters=16 * (job.settings.lora.rank if job.settings.lora else 64),
        tokens=last.tokens,
        loss_tokens=job.settings.epochs * sum(len(example.target.split()) for example in job.train),
        seconds=last.seconds,
        peak_memory_gb=last.memory_gb,
        flops=6.0 * last.tokens,
        environment={"trainer": "memory/1"},
    )


def _write_prototypes(job: LabelJob, folder: Path) -> None:
    """Least squares on the vectors of the twin, and what it says of the rows."""
    vectors_NW = MemoryEncoder().embed(folder, [row.text for row in job.train]).astype(float)
    borne_NK = np.array([[label in row.labels for label in job.labels] for row in job.train], dtype=float)
    products_WW = vectors_NW.T @ vectors_NW + 0.1 * np.eye(WIDTH)
    weights_KW = 20.0 * np.linalg.solve(products_WW, vectors_NW.T @ (borne_NK - borne_NK.mean(axis=0))).T
    odds_NK = vectors_NW @ weights_KW.T
    write_prototypes(LabelPrototypes(weights_KW, np.zeros(len(job.labels))), folder)
    write_left_out((odds_NK - np.log(np.exp(odds_NK).sum(axis=1, keepdims=True))).astype(np.float32), folder)
