"""Entry point of one process of a distributed training: ``python -m tailorbird.training.worker_main PARENT``.

Its place and the job are the first two lines on stdin.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.run import TrainingProgress
from tailorbird.ports.trainer import TrainingJob
from tailorbird.training.process_group import TeamPlace, meet
from tailorbird.training.trainer import TorchTrainer

#: Seconds between two looks whether the process that started this one lives.
_LOOK = 1.0


class TrainingProcess:
    """Speaks for this process, in UTF-8 whatever the locale; ``out`` is what stdout was before libraries could write to it."""

    def __init__(self) -> None:
        self._in = os.fdopen(0, encoding="utf-8", closefd=False)
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
        os.dup2(2, 1)
        self._leads = False

    def run(self) -> None:
        """Trains the job on stdin."""
        place = TeamPlace.model_validate_json(self._in.readline())
        job = TrainingJob.model_validate_json(self._in.readline())
        self._leads = place.rank == 0
        try:
            meet(place)
            trained = TorchTrainer().train(job, self._report)
        except TailorbirdError as error:
            self._say("error", kind=type(error).__name__, **error.as_dict())
        except KeyboardInterrupt:
            self._say("ended" if self._leads else "left")
        else:
            self._say("done", trained=trained.model_dump(mode="json")) if self._leads else self._say("left")
        # Ended by whoever started it: one that left by itself would be taken for lost while the one that leads still writes.
        self._in.readline()

    def _report(self, line: TrainingProgress) -> None:
        self._say("progress", line=line.model_dump(mode="json"))
        if self._in.readline().strip() != "go":
            raise KeyboardInterrupt

    def _say(self, event: str, **what: Any) -> None:
        self._out.write(json.dumps({"event": event, **what}) + "\n")


def end_with(parent: int) -> None:
    """This process ends when ``parent``, which started it, is gone: nobody else would end it while it waits for the others of its team."""

    def look() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK)
        os._exit(1)

    threading.Thread(target=look, daemon=True).start()


if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    TrainingProcess().run()
