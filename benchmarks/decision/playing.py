"""``adapt`` played in a workspace of its own, with trainings and answers that are made once.

In: an objective's file, a folder. Out: what the run measured, what dev chose, and whether it was released. Must not know: right answers.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from beds import ROOT
from remembering import Known, RememberingEngine, RememberingTrainer

from tailorbird import settings, wiring
from tailorbird.domain.ladder import Ladder
from tailorbird.usecases import Dependencies, Progress
from tailorbird.usecases.identities import FIRST_PEOPLE, act_as, initialise, key_path
from tailorbird.usecases.runs.queries import show_run
from tailorbird.usecases.runs.submit import adapt
from tailorbird.usecases.runs.transitions import choose_step


def _as_it_is(deps: Dependencies) -> Dependencies:
    return deps


@dataclass(frozen=True)
class Played:
    """``ladder`` is the climb that dev decided on: where the sealed test confirms nothing the run goes on, and ``looks`` are more than one.
    ``released`` tells whether it ended with a release."""

    ladder: Ladder
    looks: int
    released: bool


def played(
    write: Callable[[Path], Path], folder: Path, trained: Path, known: Known, allow: Callable[[Dependencies], Dependencies] = _as_it_is
) -> Played:
    """What ``adapt`` does with the objective that ``write`` puts into a folder; ``folder`` is emptied before and gone afterwards. ``allow``
    gives the tenant ``bench`` what the objective asks for beside."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    settings.save_settings(folder, {"tenant": "bench"})
    (folder / "models").symlink_to(ROOT / ".cache" / "models")
    deps = wiring.open_dependencies(settings.load_settings(folder))
    trainer, engine = RememberingTrainer(deps.trainer(), trained), RememberingEngine(deps.engine(), known)
    deps = replace(deps, trainer=lambda: trainer, engine=lambda: engine)
    initialise(deps, "bench", FIRST_PEOPLE)
    deps = allow(deps)
    author = act_as(deps, "bench", "author", key_path(deps, "bench", "author"))
    done = adapt(deps, author, write(folder / "job"), Progress(tell=lambda text: print(f"  {text}", file=sys.stderr, flush=True)))
    told = show_run(deps, author, done.run.id)
    chosen = next(step.result for step in done.steps if step.name == choose_step(1))
    assert chosen is not None
    with deps.ledger.work("bench", write=False) as work:
        ladder = work.records.get(Ladder, chosen)
    shutil.rmtree(folder)
    return Played(ladder, len(told.looks), bool(told.conclusion and told.conclusion.release))
