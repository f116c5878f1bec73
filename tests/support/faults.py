"""A small story to break, and what must be true of it in the end."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.moments import Kill
from support.story_process import Call
from support.usecases import write_objective
from tailorbird import settings, wiring
from tailorbird.domain.run import RunState, StepState
from tailorbird.domain.value import Digest
from tailorbird.usecases import Dependencies, Progress
from tailorbird.usecases.identities import FIRST_PEOPLE, act_as, initialise
from tailorbird.usecases.maintenance.audit import verify_log
from tailorbird.usecases.runs import submit as climbing


def write_job(folder: Path, rows: int = 300, **changes: object) -> Path:
    """An objective over short rows, every twentieth of which the twin engine gets wrong; its ladder compares a prompt with an adapter."""
    kpis = [{"metric": "accuracy", "target": 0.6, "because": "as good as people"}]
    return write_objective(folder, rows=rows, **({"ladder": ["prompt", "lora"], "kpis": kpis} | changes))


@dataclass(frozen=True)
class Desk:
    """A workspace on disk, and a job for it."""

    workspace: Path
    objective: Path

    @classmethod
    def new(cls, folder: Path, objective: Path, **values: str) -> Desk:
        """A workspace with its first people; ``values`` are settings of it."""
        folder.mkdir()
        settings.save_settings(folder, {"tenant": "acme"} | values)
        desk = cls(folder, objective)
        with opened(desk) as deps:
            initialise(deps, "acme", FIRST_PEOPLE)
        return desk

    def copy(self, folder: Path) -> Desk:
        """The same workspace elsewhere; nothing may be at work in it."""
        shutil.copytree(self.workspace, folder, symlinks=True)
        return Desk(folder, self.objective)

    def open(self) -> Dependencies:
        """The workspace's deps, opened in this process."""
        return wiring.open_dependencies(settings.load_settings(self.workspace))

    def call(self, *arguments: str, kill: Kill | None = None, moments: Path | None = None) -> Call:
        """A call of the command line on this workspace."""
        verb, *rest = arguments
        return Call((verb, *rest, "--workspace", str(self.workspace)), self.workspace / "calls.log", kill, moments)

    def adapt(self, kill: Kill | None = None, moments: Path | None = None) -> Call:
        """``tailorbird adapt``."""
        return self.call("adapt", str(self.objective), kill=kill, moments=moments)

    def worker(self, kill: Kill | None = None, moments: Path | None = None) -> Call:
        """``tailorbird worker``, until nothing waits."""
        return self.call("worker", "--once", kill=kill, moments=moments)

    def submit(self) -> None:
        """Leaves the job to workers."""
        call = self.call("adapt", str(self.objective), "--detach")
        assert call.run() == 0, call.said

    def is_over(self) -> bool:
        """True when every run has ended."""
        with opened(self) as deps, deps.ledger.work("acme", write=False) as work:
            return {run.state for run in work.runs.all()} == {RunState.DONE}


@contextmanager
def opened(desk: Desk) -> Iterator[Dependencies]:
    """The deps of ``desk``, opened anew and closed again."""
    deps = desk.open()
    try:
        yield deps
    finally:
        deps.ledger.close()


def adapt_here(desk: Desk, tell: Callable[[str], None] = lambda _: None) -> None:
    """``tailorbird adapt`` in this process, as far as it comes; whatever is told passes ``tell`` first. Needs the fixture ``twins``."""
    with opened(desk) as deps:
        climbing.adapt(deps, act_as(deps, "acme", "author"), desk.objective, Progress(tell=tell))


@dataclass(frozen=True)
class Ending:
    """How a story ended: its only release, and how often each kind of event stands in the log."""

    release: Digest
    steps: tuple[str, ...]
    events: Counter[str]


def ending_of(desk: Desk) -> Ending:
    """How the one story of ``desk`` ended. Asserts all that holds for every story, however often it was disturbed."""
    with opened(desk) as deps:
        assert verify_log(deps, act_as(deps, "acme", "author")).problems == ()
        with deps.ledger.work("acme", write=False) as work:
            (run,) = work.runs.all()
            steps = work.steps.of(run.id)
            (release,) = work.releases.all()
            assert work.looks.count(run.objective_name) == 1
        with deps.ledger.system(write=False) as system:
            events = [entry.event for entry in system.events.entries()]
    assert run.state is RunState.DONE
    assert {step.state for step in steps} == {StepState.DONE}
    assert not [step.name for step in steps if step.lease_until is not None]
    done = [event.data["step"] for event in events if event.kind == "step.done"]
    assert done == [step.name for step in steps], "a step was done twice, or not at all"
    # How many entries do no more than anchor rows depends on who is disturbed when.
    told = Counter(event.kind for event in events if event.kind != "rows.changed")
    return Ending(release.digest, tuple(step.name for step in steps), told)
