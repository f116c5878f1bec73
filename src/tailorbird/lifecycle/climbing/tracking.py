"""The trackers of one training: told of each step, and left out once they fail. Nobody's training ends because a server is down.

In: trackers, a rung that trains. Out: a place to report steps. Must not know: what a tracker is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.plan import RungPlan
from tailorbird.domain.run import TrainingProgress, TrainingReport
from tailorbird.foundations.canonical import digest_of, plain_json
from tailorbird.lifecycle.steps import story
from tailorbird.lifecycle.steps.stage import Stage
from tailorbird.ports.tracker import TrackedTraining, Tracker
from tailorbird.ports.trainer import ReportProgress


class Tracking:
    """Those of ``trackers`` that have not failed; ``tell`` hears of each that does."""

    def __init__(self, trackers: tuple[Tracker, ...], tell: Callable[[str], None]) -> None:
        self._trackers = list(trackers)
        self._tell = tell
        self.report: TrainingReport | None = None

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
def tracked(stage: Stage, rung: RungPlan) -> Iterator[Tracking]:
    """The trackers of this workspace, told of the training of ``rung``; none where it trains nothing."""
    tracking = Tracking(stage.parts.trackers() if rung.training else (), stage.progress.tell)
    tracking.each(lambda tracker: tracker.begin(_training(stage, rung)))
    try:
        yield tracking
    finally:
        tracking.each(lambda tracker: tracker.end(tracking.report))


def _training(stage: Stage, rung: RungPlan) -> TrackedTraining:
    assert rung.training is not None
    facts = {"base_model": stage.base_for(rung).name, "snapshot": digest_of(stage.manifest)}
    return TrackedTraining(
        experiment=f"{stage.run.tenant}/{stage.run.objective_name}",
        run=stage.run.id,
        name=story.make_step(rung),
        settings=facts | _flat(plain_json(rung.training)),
    )


def _flat(settings: object, name: str = "") -> dict[str, str]:
    if not isinstance(settings, dict):
        return {name: str(settings)}
    parts = [_flat(value, f"{name}.{key}" if name else key) for key, value in settings.items()]
    return {key: value for part in parts for key, value in part.items()}
