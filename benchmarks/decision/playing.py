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
from tailorbird.lifecycle import Progress
from tailorbird.lifecycle.explaining.reports import report
from tailorbird.lifecycle.identities.people import FIRST_PEOPLE, act_as, initialise, key_path
from tailorbird.lifecycle.running.adapt import adapt
from tailorbird.lifecycle.steps.story import choose_step


@dataclass(frozen=True)
class Played:
    """``ladder`` is the climb that dev decided on: where the sealed test confirms nothing the run goes on, and ``looks`` are more than one.
    ``released`` tells whether it ended with a release."""

    ladder: Ladder
    looks: int
    released: bool


def played(write: Callable[[Path], Path], folder: Path, trained: Path, known: Known) -> Played:
    """What ``adapt`` does with the objective that ``write`` puts into a folder; ``folder`` is emptied before and gone afterwards."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    settings.save_settings(folder, {"tenant": "bench"})
    (folder / "models").symlink_to(ROOT / ".cache" / "models")
    parts = wiring.open_parts(settings.load_settings(folder))
    trainer, engine = RememberingTrainer(parts.trainer(), trained), RememberingEngine(parts.engine(), known)
    parts = replace(parts, trainer=lambda: trainer, engine=lambda: engine)
    initialise(parts, "bench", FIRST_PEOPLE)
    author = act_as(parts, "bench", "author", key_path(parts, "bench", "author"))
    done = adapt(parts, author, write(folder / "job"), Progress(tell=lambda text: print(f"  {text}", file=sys.stderr, flush=True)))
    told = report(parts, "bench", done.run.id)
    chosen = next(step.result for step in done.steps if step.name == choose_step(1))
    assert chosen is not None
    with parts.ledger.work("bench", write=False) as work:
        ladder = work.records.get(Ladder, chosen)
    shutil.rmtree(folder)
    return Played(ladder, len(told.looks), bool(told.conclusion and told.conclusion.release))
