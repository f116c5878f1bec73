"""A trainer and an engine that do equal work once: the exhaustive runs and the decisions of a bed ask for the same again and again.

In: the real ones. Out: the same ports. Must not know: rungs, objectives. Training and scoring are deterministic on one machine, so what is
kept is what would be made again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.deployment import Servable
from tailorbird.domain.errors import Unavailable
from tailorbird.domain.plan import Calibration
from tailorbird.domain.prompt import Message, Sampling
from tailorbird.domain.run import TrainingReport
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import Generation, LabelScores, LocalEngine
from tailorbird.ports.trainer import ReportProgress, TrainedModel, Trainer, TrainingJob


class RememberingTrainer:
    """Keeps what it trained in ``folder``. Steps are never timed: a plan then rests on formulas, as it may."""

    def __init__(self, trainer: Trainer, folder: Path) -> None:
        self._trainer, self._folder = trainer, folder

    def train(self, job: TrainingJob, report: ReportProgress) -> TrainedModel:
        """As the trainer; an equal job (whatever snapshot its rows came from) is answered from the folder."""
        named = job.model_dump(mode="json", exclude={"base", "workspace", "snapshot"})
        kept = self._folder / digest_of(named).removeprefix("sha256:")[:24]
        if not kept.exists():
            self._keep(self._trainer.train(job, report), kept)
        known = TrainingReport.model_validate_json((kept / "report.json").read_text(encoding="utf-8"))
        return TrainedModel(folder=kept / "model", report=known.model_copy(update={"snapshot": job.snapshot}))

    @staticmethod
    def _keep(made: TrainedModel, kept: Path) -> None:
        unfinished = kept.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(made.folder, unfinished / "model")
        (unfinished / "report.json").write_text(made.report.model_dump_json(), encoding="utf-8")
        unfinished.rename(kept)

    def calibrate(self, *_: object) -> Calibration:
        """Refused."""
        raise Unavailable("the benchmark of decisions times no steps", "benchmarks/decision --only estimates does", code="not_timed")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trainer, name)


@dataclass(frozen=True)
class Known:
    """Scores and generated answers by the weights that gave them, the prompt, and the labels or the way of sampling. They outlive the
    engine of one run."""

    scores: dict[tuple[str, Digest, Digest], LabelScores] = field(default_factory=dict)
    answers: dict[tuple[str, Digest, Digest], Generation] = field(default_factory=dict)


class RememberingEngine:
    """Remembers the scores of labels, and generated answers, in ``known``; everything else goes to the engine itself."""

    def __init__(self, engine: LocalEngine, known: Known) -> None:
        self._engine, self._known = engine, known
        self._weights: dict[Digest, str] = {}
        #: A floor answers in milliseconds, by a model that no folder of weights names.
        self._floor: dict[Digest, bool] = {}

    def load(self, servable: Servable) -> None:
        """As the engine. Weights are told apart by the names of their folders, which are digests."""
        self._weights[servable.id] = " ".join(Path(part).name for part in (servable.adapter, servable.weights) if part)
        self._floor[servable.id] = servable.floor is not None
        self._engine.load(servable)

    def score(self, servable: Digest, prompts: Sequence[Sequence[Message]], labels: Sequence[str]) -> list[LabelScores]:
        """As the engine, which is asked for what is not known."""
        if self._floor[servable]:
            return self._engine.score(servable, prompts, labels)
        names, scores = self._names(servable, prompts, {"labels": list(labels)}), self._known.scores
        missing = [place for place, name in enumerate(names) if name not in scores]
        if missing:
            made = self._engine.score(servable, [prompts[place] for place in missing], labels)
            scores.update({names[place]: one for place, one in zip(missing, made, strict=True)})
        return [scores[name] for name in names]

    def generate(
        self,
        servable: Digest,
        prompts: Sequence[Sequence[Message]],
        sampling: Sampling,
        on_text: Callable[[int, str], bool] | None = None,
    ) -> list[Generation]:
        """As the engine, which is asked for what is not known; streams go to the engine itself."""
        if on_text is not None:
            return self._engine.generate(servable, prompts, sampling, on_text)
        names, answers = self._names(servable, prompts, sampling.model_dump(mode="json")), self._known.answers
        missing = [place for place, name in enumerate(names) if name not in answers]
        if missing:
            made = self._engine.generate(servable, [prompts[place] for place in missing], sampling)
            answers.update({names[place]: one for place, one in zip(missing, made, strict=True)})
        return [answers[name] for name in names]

    def _names(self, servable: Digest, prompts: Sequence[Sequence[Message]], asked: dict[str, Any]) -> list[tuple[str, Digest, Digest]]:
        weights, how = self._weights[servable], digest_of(asked)
        return [(weights, digest_of({"prompt": [part.model_dump(mode="json") for part in prompt]}), how) for prompt in prompts]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)
