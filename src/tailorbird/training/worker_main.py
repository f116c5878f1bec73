"""Entry point of one process of a distributed training: ``python -m tailorbird.training.worker_main``."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, cast

from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.run import TrainingProgress
from tailorbird.ports.trainer import TrainingJob
from tailorbird.training.process_group import Sharding
from tailorbird.training.trainer import TorchTrainer


class TrainingProcess:
    """Speaks for this process; ``out`` is what stdout was before libraries could write to it."""

    def __init__(self, sharding: Sharding) -> None:
        self._sharding = sharding
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
        os.dup2(2, 1)

    def run(self) -> None:
        """Trains the job on stdin."""
        job = TrainingJob.model_validate_json(sys.stdin.readline())
        try:
            trained = TorchTrainer(sharding=self._sharding).train(job, self._report)
        except TailorbirdError as error:
            self._say("error", kind=type(error).__name__, **error.as_dict())
        except KeyboardInterrupt:
            self._lead("ended")
        else:
            self._lead("done", trained=trained.model_dump(mode="json"))
        # Ended by whoever started it: one that left by itself would be taken for lost while the one that leads still writes.
        sys.stdin.readline()

    def _report(self, line: TrainingProgress) -> None:
        self._say("progress", line=line.model_dump(mode="json"))
        if sys.stdin.readline().strip() != "go":
            raise KeyboardInterrupt

    def _lead(self, event: str, **what: Any) -> None:
        """What the process that leads says for all."""
        if os.environ["RANK"] == "0":
            self._say(event, **what)

    def _say(self, event: str, **what: Any) -> None:
        self._out.write(json.dumps({"event": event, **what}) + "\n")


if __name__ == "__main__":
    TrainingProcess(cast(Sharding, sys.argv[1])).run()
