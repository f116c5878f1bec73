"""Experiment trackers of one training; one that fails is left out, and the training goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tailorbird.crypto.canonical_json import digest_of, plain_json
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.plan import RungPlan
from tailorbird.domain.run import TrainingProgress, TrainingReport
from tailorbird.domain.value import Digest
from tailorbird.ports.tracker import TrackedTraining, Tracker
from tailorbird.ports.trainer import Job, ReportProgress
from tailorbird.rungs import ReusableTraining
from tailorbird.usecases.steps import transitions
from tailorbird.usecases.steps.step_context import StepContext

#: Finds a finished training by the fingerprint of a job.
FindTraining = Callable[[Digest, Job], ReusableTraining | None]


class ExperimentTracking:
    """Trackers that have not failed, told of a training that is not reused; ``tell`` hears of each that fails."""

    def __init__(self, trackers: tuple[Tracker, ...], tell: Callable[[str], None], training: TrackedTraining | None) -> None:
        self._trackers = list(trackers)
        self._tell = tell
        self._training = training
        self._begun = False
        self.report: TrainingReport | None = None

    def unless(self, find: FindTraining) -> FindTraining:
        """``find``, after which the training begins where none was found."""

        def found(fingerprint: Digest, job: Job) -> ReusableTraining | None:
            reused = find(fingerprint, job)
            if reused is None and (training := self._training) is not None:
                self._begun = True
                self.each(lambda tracker: tracker.begin(training))
            return reused

        return found

    def end(self) -> None:
        """Tells that a training which had begun is over."""
        if self._begun:
            self.each(lambda tracker: tracker.end(self.report))

    def ahead_of(self, report: ReportProgress) -> ReportProgress:
        """Shows a step, then reports it: the report may end the training."""

        def both(line: TrainingProgress) -> None:
            self.each(lambda tracker: tracker.note(line))
            report(line)

        return both

    def each(self, do: Callable[[Tracker], None]) -> None:
        """Does ``do`` with every tracker that is left."""
        for tracker in list(self._trackers):
            try:
                do(tracker)
            except TailorbirdError as error:
                self._trackers.remove(tracker)
                self._tell(f"metrics are shown no longer, the training goes on: {error.message}")


@contextmanager
def tracked(context: StepContext, rung: RungPlan) -> Iterator[ExperimentTracking]:
    """The trackers of this workspace, told of the training of ``rung``; none where it trains nothing."""
    trackers = context.deps.trackers() if rung.training else ()
    tracking = ExperimentTracking(trackers, context.progress.tell, _training(context, rung) if trackers else None)
    try:
        yield tracking
    finally:
        tracking.end()


def _training(context: StepContext, rung: RungPlan) -> TrackedTraining:
    assert rung.training is not None
    facts = {"base_model": context.base_for(rung).name, "snapshot": digest_of(context.manifest)}
    return TrackedTraining(
        experiment=f"{context.run.tenant}/{context.run.objective_name}",
        run=context.run.id,
        name=transitions.make_step(rung),
        settings=facts | _flat(plain_json(rung.training)),
    )


def _flat(settings: object, name: str = "") -> dict[str, str]:
    if not isinstance(settings, dict):
        return {name: str(settings)}
    parts = [_flat(value, f"{name}.{key}" if name else key) for key, value in settings.items()]
    return {key: value for part in parts for key, value in part.items()}
