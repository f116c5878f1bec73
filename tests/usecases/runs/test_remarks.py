"""What is odd about a rung is told where people decide: in its reason, on the ladder, on the page of evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from support.doubles import MemoryEngine, MemoryTrainer
from support.usecases import VIEWER, write_objective
from tailorbird.domain.ladder import RungKind
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Message
from tailorbird.domain.run import TrainingPlateau
from tailorbird.domain.value import Digest
from tailorbird.ports.engine import LabelScores
from tailorbird.ports.trainer import ReportProgress, TrainedModel, TrainingJob
from tailorbird.reporting.documents import evidence_markdown
from tailorbird.reporting.ladder import ladder_reasons
from tailorbird.usecases import Actor, Dependencies, Progress
from tailorbird.usecases.runs.measurement import plateau_text
from tailorbird.usecases.runs.queries import show_evidence, show_run
from tailorbird.usecases.runs.submit import adapt

STILL = TrainingPlateau(loss=2.485, held_out=2.36, waits=(34, 51), added=102, left=None)


class Constant(MemoryEngine):
    """Gives the first label to everything."""

    def score(self, servable: Digest, prompts: Sequence[Sequence[Message]], labels: Sequence[str]) -> list[LabelScores]:
        found = super().score(servable, prompts, labels)
        always = tuple(-0.1 if place == 0 else -5.0 for place, _ in enumerate(labels))
        return [one.model_copy(update={"log_probabilities": always}) for one in found]


class Standing(MemoryTrainer):
    """Reports that a training never left its plateau."""

    def train(self, job: TrainingJob, report: ReportProgress) -> TrainedModel:
        made = super().train(job, report)
        return made.model_copy(update={"report": made.report.model_copy(update={"plateau": STILL})})


def test_one_answer_for_everything_and_a_training_that_stood_still_are_told(deps: Dependencies, author: Actor, tmp_path: Path) -> None:
    engine, trainer = Constant(), Standing()
    odd = replace(deps, engine=lambda: engine, trainer=lambda: trainer)
    run = adapt(odd, author, write_objective(tmp_path / "odd", hard_share=2, ladder=["prompt", "lora"]), Progress()).run
    told = show_run(deps, VIEWER, run.id)
    prompt, lora = (next(climb for climb in told.ladder.climbs if climb.rung is kind) for kind in (RungKind.PROMPT, RungKind.LORA))
    one, missing = prompt.evidence.remarks
    assert one.startswith("answers '")
    assert "never gives" in missing
    assert one in prompt.reason
    still = plateau_text(STILL, TaskKind.CLASSIFY)
    assert still in lora.reason
    assert all(any(said in line for line in ladder_reasons(told.ladder)) for said in (one, missing, still))
    page = show_evidence(deps, VIEWER, run.id)
    written = evidence_markdown(page)
    assert "which is right for" in written
    assert "it has learned little or nothing" in written
