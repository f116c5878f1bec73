"""Runs on a server: submitted with the data they need, and followed to their end."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from tailorbird.domain.errors import Conflict, TailorbirdError
from tailorbird.domain.run import Run, RunState, Step
from tailorbird.objective import OBJECTIVE_FILE, read_objective
from tailorbird.sdk.session import WorkspaceSession
from tailorbird.usecases import Progress, StepBegun
from tailorbird.usecases.runs.run_queries import OPEN, Job, RunReport, show_job, show_run
from tailorbird.usecases.runs.submit import OBJECTIVE_NAME, Submission, submit_uploaded

#: Seconds between two looks at a run that a server works on.
POLL_SECONDS = 1.0


def submit_file(session: WorkspaceSession, path: Path, goal: Literal["plan", "adapt"], *, again: bool = False) -> Run:
    """Uploads the data on this machine that the objective at ``path`` names, then submits it to the server."""
    file = read_objective(path, session.tenant)
    uploaded = {name: session.remote().upload(place) for name, place in _local_files(path.parent, file.objective.places)}
    name = path.name if re.match(OBJECTIVE_NAME, path.name) else OBJECTIVE_FILE
    asked = Submission(objective=path.read_text(encoding="utf-8-sig"), files=uploaded, goal=goal, name=name, again=again)
    return session.ask(submit_uploaded, asked)


def _local_files(folder: Path, named: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    for name in named:
        place = folder / name
        if "://" in name:
            continue
        if place.is_dir():
            yield from ((f"{name.rstrip('/')}/{file.relative_to(place).as_posix()}", file) for file in place.rglob("*") if file.is_file())
        else:
            yield name, place


def follow(session: WorkspaceSession, run: Run, progress: Progress, until: Callable[[Job], bool] = lambda _: False) -> RunReport:
    """Reports the progress of a run that workers execute until it has ended, or ``until`` says so.

    Raises Conflict when it failed or was cancelled.
    """
    told: tuple[object, ...] = ()
    begun = ""
    while (job := session.ask(show_job, run=run.id)).run.state in OPEN and not until(job):
        if job.step is not None and job.working and job.step.name != begun:
            begun = job.step.name
            progress.step(StepBegun(run.id, begun, job.done, job.outlook))
        seen = job.step.progress if job.step else None
        line = (
            f"step {job.step.name}: {seen.text}" if job.step and seen else f"step {job.step.name}" if job.step else "waiting for a worker"
        )
        if (line, job.working) != told:
            progress.tell(f"{line}: waiting for a worker" if job.step and not job.working else line)
            told = (line, job.working)
        if seen and seen.training:
            progress.training(seen.training)
        elif seen and seen.total:
            progress.count(seen.done, seen.total)
        time.sleep(POLL_SECONDS)
    progress.step(None)
    if job.run.state in (RunState.FAILED, RunState.CANCELLED):
        raise _ended_badly(job.run, job.step)
    return session.ask(show_run, run=run.id)


def is_planned(session: WorkspaceSession, job: Job) -> bool:
    """True when the plan is there: a run that somebody adapts already goes on beyond it."""
    return job.run.state is RunState.ACTIVE and session.ask(show_run, run=job.run.id).plan is not None


def _ended_badly(run: Run, step: Step | None) -> TailorbirdError:
    error = step.error if step else None
    why = f": {step.message or error}" if step and error else ""
    hint = f"{step.hint}; then " if step and step.hint else f"see tailorbird runs show {run.id}; "
    return Conflict(
        f"run {run.id} is {run.state.word}{why}", f"{hint}adapt again to go on where it stopped", code=error or f"run_{run.state.value}"
    )
