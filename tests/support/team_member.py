"""One process of a team that trains: ``team_member.py PLACE JOB STEP``, the JSON of a TeamPlace, the file of a job, and the step at which
it dies. Tells what became of it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.run import TrainingProgress
from tailorbird.ports.trainer import TeamPlace, TrainingJob
from tailorbird.training import open_trainer


def train(place: TeamPlace, job: TrainingJob, die_at: int) -> None:
    def report(line: TrainingProgress) -> None:
        if line.step == die_at:
            os.kill(os.getpid(), 9)

    try:
        trained = open_trainer().train_in_team(job, place, report, lambda: True)
        told: dict[str, object] = {"folder": str(trained.folder) if trained else None}
    except TailorbirdError as error:
        told = {"raised": type(error).__name__, **error.as_dict()}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    given = TrainingJob.model_validate_json(Path(sys.argv[2]).read_text(encoding="utf-8"))
    train(TeamPlace.model_validate_json(sys.argv[1]), given, int(sys.argv[3]))
