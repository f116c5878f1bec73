"""Help with a step that measures a candidate: idle nodes of the cluster are asked to answer parts of its items meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tailorbird import data
from tailorbird.domain.compute import StepNeed
from tailorbird.domain.errors import TailorbirdError
from tailorbird.domain.objective import TaskKind
from tailorbird.ports.compute import Compute, PlacedTask
from tailorbird.usecases.climb.answer_parts import parts_of, rows_by_group
from tailorbird.usecases.runs.step_placement import GRACE_SECONDS, HelpTask, StepAnswer, StepTask, is_helped
from tailorbird.usecases.steps import transitions
from tailorbird.usecases.steps.step_context import StepContext

#: Parts, and bytes of sources, below which no help is worth its beginning.
FEWEST_PARTS, FEWEST_BYTES = 2, 4 << 20
#: Seconds after which the books of a cluster say which node was given a step that was placed: one that is idle then is another.
BOOKED_SECONDS = 0.4


@dataclass
class Helpers:
    """The nodes that help a run, from its first step to its last. Each is asked for one step at a time, and ends when that is done; one
    that is lost is not asked again for the same step, which goes on without. ``tell`` hears of one that could not help."""

    tasks: list[PlacedTask] = field(default_factory=list)
    tell: Callable[[str], object] = str

    def beside(self, context: StepContext, compute: Compute, task: StepTask, need: StepNeed) -> Callable[[bool], None]:
        """What asks for help with a step, each time it hears that a node holds the step and some is lacking; nothing where the step takes
        none. Rows are curated before the step is held, too: processes of both nodes begin at once."""
        if not is_helped(context.plan, task.step, need) or not _is_worth_it(context, task.step):
            return lambda _held: None
        since = time.monotonic()
        self.tell = context.progress.tell
        among, asked = len(compute.nodes()) - 1, list[PlacedTask]()

        def ask(held: bool) -> None:
            self.look()
            early = task.step == transitions.SNAPSHOT and time.monotonic() - since >= BOOKED_SECONDS
            if len(asked) >= among or not (held or early):
                return
            help_task = HelpTask(**task.model_dump(), number=len(asked), among=among)
            with suppress(TailorbirdError):
                placed = compute.place_aside(help_task.model_dump_json(), need, purpose=f"{task.tenant}/{task.run}/answers")
                if placed is not None:
                    asked.append(placed)
                    self.tasks.append(placed)
                    what = "curates part of the rows" if task.step == transitions.SNAPSHOT else "answers part of the items"
                    context.progress.tell(f"an idle node {what}, too ({len(asked)} of {among} that may)")

        return ask

    def look(self) -> None:
        """Notes which have ended."""
        for placed in list(self.tasks):
            with suppress(TailorbirdError):
                if placed.ended(0):
                    self.tasks.remove(placed)
                    if why := _fault_of(placed):
                        self.tell(f"a node that helped does so no more: {why}")

    def end(self) -> None:
        """Interrupts those that go on, and returns when they have ended."""
        self.look()
        for placed in self.tasks:
            with suppress(TailorbirdError):
                placed.cancel()
        until = time.monotonic() + GRACE_SECONDS
        for placed in self.tasks:
            with suppress(TailorbirdError):
                placed.ended(max(0.0, until - time.monotonic()))
        self.tasks.clear()


@contextmanager
def run_helpers() -> Iterator[Helpers]:
    """For the steps of a run; whoever helps then has ended with them."""
    nodes = Helpers()
    try:
        yield nodes
    finally:
        nodes.end()


def _fault_of(placed: PlacedTask) -> str:
    """Why a node could not help; empty where it did."""
    try:
        fault = StepAnswer.model_validate_json(placed.answer()).fault
    except TailorbirdError as error:
        return error.message
    except ValueError:
        return "its answer cannot be read"
    return fault.message if fault is not None else ""


def _is_worth_it(context: StepContext, step: str) -> bool:
    """Few rows are curated, and documents are ranked, in less time than it takes to load what does it."""
    if step == transitions.SNAPSHOT:
        return data.can_be_helped(context.objective) and _source_bytes(context) >= FEWEST_BYTES
    return context.objective.task.kind is not TaskKind.RANK and len(parts_of(rows_by_group(context))) >= FEWEST_PARTS


def _source_bytes(context: StepContext) -> int:
    paths = [Path(context.file.folder, source.path) for source in context.objective.data]
    return sum(path.stat().st_size for path in paths if path.is_file())
