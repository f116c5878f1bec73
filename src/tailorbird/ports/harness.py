"""Tasks of an outside harness, as further probes of what a model can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tailorbird.domain.value import Digest
from tailorbird.ports.engine import Engine

#: Which questions of a task were answered right, by the question's id.
Rights = Mapping[str, bool]


class Harness(Protocol):
    """Reads task files and puts their questions to a loaded servable."""

    def ask(self, engine: Engine, servable: Digest, tasks: Sequence[Path], tell: Callable[[int, int], None]) -> Mapping[str, Rights]:
        """By the name of each task. The same task asks every servable the same questions.

        Raises InvalidInput (``harness_task``) for a file that is no task, would run code or reach into the network; what the engine raises.
        """
        ...
