"""Training fork: a run that resumes another's unfinished training although objective, data or code differ, on record."""

from __future__ import annotations

import shutil
from pathlib import Path

from tailorbird.auth import Action
from tailorbird.domain.errors import Conflict, NotFound
from tailorbird.domain.run import FINISHED, Run
from tailorbird.usecases.audit_events import permit, record
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.parameters import RunId
from tailorbird.usecases.registry import usecase

_MARK = "forked-from"
#: Folders of steps that make a candidate.
_MAKING = "make-*"


@usecase("run.fork", "POST", "/api/runs/{run}/fork", Action.ADAPT)
def fork(deps: Dependencies, actor: Actor, run: RunId, source: RunId) -> Run:
    """Let a run go on from the unfinished training of another.

    ``run`` goes on from what ``source`` has trained; a run may go on from itself, after its code has changed.
    What the training takes over is in its report. Raises Forbidden, NotFound (no such run, nothing left of its training), Conflict (the run
    is done).
    """
    permit(deps, actor, Action.ADAPT, run)
    with deps.ledger.work(actor.tenant) as work:
        new, old = work.runs.get(run), work.runs.get(source)
        if new.state in FINISHED:
            raise Conflict(
                f"run {new.id} is over: {new.state.word}",
                "fork into a run that has not ended: change the objective and plan again",
                code="run_done",
            )
        _take_over(deps.runs / old.id, deps.runs / new.id)
        record(work, "run.forked", actor.name, new.id, deps.clock.now(), {"from": old.id})
    return new


def source_of(folder: Path) -> str:
    """The run whose training the run in ``folder`` may go on from; empty where it was not forked."""
    mark = folder / _MARK
    return mark.read_text(encoding="utf-8") if mark.is_file() else ""


def _take_over(old: Path, new: Path) -> None:
    """Copies what is not there yet, each folder whole or not at all; the mark comes last."""
    made = sorted(old.glob(_MAKING))
    if not made:
        raise NotFound(f"nothing is left of the training of run {old.name}", "name a run whose training was interrupted", code="fork_empty")
    for folder in made:
        place = new / folder.name
        if not place.exists():
            copy = new / f".new-{folder.name}"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(folder, copy)
            copy.replace(place)
    (new / _MARK).write_text(old.name, encoding="utf-8")
