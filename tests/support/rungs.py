"""Doubles that the tests of rungs share: rows, an engine that scores by keyword, a trainer that keeps its jobs, a store of trees."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from support.doubles import MemoryEncoder
from support.release import base
from tailorbird.crypto.canonical_json import canonical_json, digest_bytes, digest_of
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.dataset import Provenance, Row, Split
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import NotFound
from tailorbird.domain.objective import Objective
from tailorbird.domain.plan import Estimate, LoraSettings, Machine, RungPlan, TrainingSettings
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.domain.run import TrainingReport
from tailorbird.ports.engine import Generation, LabelScores
from tailorbird.ports.trainer import ReportProgress, TrainedModel, TrainingJob
from tailorbird.rungs import RungContext

LABELS = ("delivery", "invoice", "refund")
D = digest_bytes(b"x")


def make_rows(count: int, groups: int | None = None) -> tuple[Row, ...]:
    """``count`` rows over three labels; ``groups`` is how many groups they fall into."""
    place = Provenance(file="f.csv", file_digest=D, line=1, origin="o", license="l", collected="c", consent="c")
    rows = []
    for i in range(count):
        label, name = LABELS[i % 3], digest_bytes(str(i).encode())
        text = f"please look at my {label} number {i}" + " and so on" * (i % 4)
        rows.append(Row(id=name, text=text, target=label, group=f"g{i % groups}" if groups else name, split=Split.TRAIN, provenance=place))
    return tuple(rows)


class KeywordEngine:
    """Scores the label that stands in the text higher, the more so the more demonstrations the prompt has whose number is even."""

    def __init__(self) -> None:
        self.held: list[str] = []
        self.seen: list[tuple[tuple[Message, ...], ...]] = []

    def load(self, servable: Servable) -> None:
        self.held.append(servable.id)

    def unload(self, servable: str) -> None:
        self.held.remove(servable)

    def loaded(self) -> tuple[str, ...]:
        return tuple(self.held)

    def fingerprint(self) -> str:
        return "keyword"

    def count_tokens(self, base: Path, prompts: Sequence[Sequence[Message]]) -> list[int]:
        return [sum(len(m.content) for m in prompt) for prompt in prompts]

    def score(self, servable: str, prompts: Sequence[Sequence[Message]], labels: Sequence[str]) -> list[LabelScores]:
        assert servable in self.held
        self.seen.append(tuple(tuple(prompt) for prompt in prompts))
        return [self._scores(prompt, labels) for prompt in prompts]

    def _scores(self, prompt: Sequence[Message], labels: Sequence[str]) -> LabelScores:
        raw = [self.helpfulness(prompt[:-1]) if label in prompt[-1].content else 0.0 for label in labels]
        total = math.log(sum(math.exp(r) for r in raw))
        return LabelScores(log_probabilities=tuple(r - total for r in raw), prompt_tokens=1, latency_ms=1.0)

    @staticmethod
    def helpfulness(shown: Sequence[Message]) -> float:
        numbers = [int(word) for m in shown if m.role == "user" for word in m.content.split() if word.isdigit()]
        return 1.0 + sum(number % 2 == 0 for number in numbers)

    def generate(
        self,
        servable: str,
        prompts: Sequence[Sequence[Message]],
        sampling: Sampling,
        on_text: Callable[[int, str], bool] | None = None,
    ) -> list[Generation]:
        assert servable in self.held
        return [Generation(text=p[-1].content, finish_reason="stop", prompt_tokens=1, completion_tokens=1, latency_ms=1.0) for p in prompts]


class WritingTrainer:
    """Trains nothing: writes its settings as the result, and keeps the job."""

    def __init__(self) -> None:
        self.jobs: list[TrainingJob] = []

    def fingerprint(self, job: TrainingJob) -> str:
        return digest_of(job.settings)

    def train(self, job: TrainingJob, report: ReportProgress) -> TrainedModel:
        self.jobs.append(job)
        folder = job.workspace / "model"
        folder.mkdir(parents=True)
        (folder / "settings.json").write_bytes(canonical_json(job.settings))
        return TrainedModel(folder=folder, report=training_report(job))

    def measure_machine(self) -> Machine:
        return Machine(cores=1, memory_gb=1.0)


def training_report(job: TrainingJob) -> TrainingReport:
    return TrainingReport(
        settings=digest_of(job.settings),
        snapshot=job.snapshot,
        base_model=job.base_digest,
        steps=9,
        best_step=6,
        best_held_out_loss=0.1,
        first_held_out_loss=2.0,
        history=(),
        trained_parameters=4_884_480,
        tokens=1,
        loss_tokens=1,
        seconds=72.0,
        peak_memory_gb=1.5,
        flops=1.0,
        environment={},
    )


class FolderStore:
    """Only what rungs use: trees by the digest of their files."""

    def __init__(self) -> None:
        self.trees: dict[str, dict[str, str]] = {}

    def put_tree(self, folder: Path, *, public: bool = False) -> str:
        files = {str(p.relative_to(folder)): digest_bytes(p.read_bytes()) for p in sorted(folder.rglob("*")) if p.is_file()}
        digest = digest_of(dict(files))
        self.trees[digest] = files
        return digest

    def get_tree(self, digest: str) -> Path:
        raise NotFound(f"{digest} lies nowhere", "put it again")


def build_context(folder: Path, plan: RungPlan, **changes: Any) -> RungContext:
    """A context for one rung; keyword arguments replace its fields."""
    engine, trainer = KeywordEngine(), WritingTrainer()
    fields: dict[str, Any] = {
        "objective": make_objective(),
        "plan": plan,
        "base": make_base(),
        "base_folder": folder / "base",
        "snapshot": D,
        "labels": LABELS,
        "label_sets": (),
        "train": make_rows(120),
        "dev": (),
        "documents": (),
        "encoder_folder": None,
        "encoder": MemoryEncoder,
        "trainer": lambda: trainer,
        "engine": lambda: engine,
        "artifacts": FolderStore(),
        "workspace": folder / "work",
        "indexes": folder / "indexes",
        "report": lambda line: None,
        "progress": lambda text: None,
    }
    return RungContext(**(fields | changes))


def make_base() -> BaseModelRef:
    small = {
        "parameters": 100,
        "hidden": 4,
        "layers": 1,
        "vocabulary": 9,
        "context": 512,
        "intermediate": 8,
        "linear_shapes": {"q_proj": (4, 4)},
    }
    return base().model_copy(update={"name": "m", "digest": D} | small)


def make_objective(kind: str = "classify") -> Objective:
    return Objective.model_validate(
        {
            "name": "intents",
            "tenant": "acme",
            "business": {"goal": "g", "owner": "o", "risk": "limited"},
            "task": {"kind": kind, "instruction": "Classify the message."},
            "data": [{"path": "d.csv", "source": {"origin": "o", "license": "l"}}],
            "kpis": [{"metric": "accuracy", "target": 0.9}],
        }
    )


def make_plan_of(rung: str, variant: str, shots: int = 0, training: TrainingSettings | None = None) -> RungPlan:
    nothing = Estimate(low=0, likely=0, high=0, unit="s")
    return RungPlan.model_validate(
        {
            "rung": rung,
            "variant": variant,
            "training": training,
            "shots": shots,
            "time": nothing,
            "memory": nothing,
            "money": nothing,
            "reasons": (),
        }
    )


def make_settings(method: str) -> TrainingSettings:
    return TrainingSettings.model_validate(
        {
            "method": method,
            "lora": LoraSettings(rank=16, alpha=32, targets=("q_proj",)) if method != "full" else None,
            "learning_rate": 1e-3,
            "epochs": 1,
            "batch_size": 16,
            "token_budget": 1024,
            "max_length": 64,
            "warmup": 0.1,
            "weight_decay": 0.0,
            "clip_norm": 1.0,
            "evaluations_per_epoch": 2,
            "precision": "fp32",
            "seed": 7,
        }
    )
