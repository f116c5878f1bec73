"""One climb in a workspace that stays, so that a run that was ended goes on, and any of its candidates measured on any rows."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tailorbird import data, rungs, settings, wiring
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.dataset import Row, SnapshotManifest, Split
from tailorbird.domain.deployment import Servable
from tailorbird.domain.evidence import ItemResult
from tailorbird.domain.ladder import Candidate, Climb
from tailorbird.domain.prompt import Sampling
from tailorbird.evaluation.measure_spec import MeasureSpec
from tailorbird.evaluation.metrics import item_results
from tailorbird.evaluation.predictions import PredictionRequest, engine_predictions
from tailorbird.usecases import Progress
from tailorbird.usecases.dependencies import Actor, Dependencies
from tailorbird.usecases.identities import FIRST_PEOPLE, act_as, initialise, key_path
from tailorbird.usecases.runs.queries import RunReport, show_run
from tailorbird.usecases.runs.submit import adapt

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("TAILORBIRD_TEST_DATA", ROOT.parent / "shared" / "data"))
WORK = ROOT / ".cache" / "benchmarks" / "jobs"
TENANT = "bench"


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Climbed:
    """A finished climb: what it found, and the ports to look further."""

    deps: Dependencies
    author: Actor
    report: RunReport

    @property
    def climbs(self) -> tuple[Climb, ...]:
        """The rungs of the ladder, cheapest first."""
        assert self.report.ladder is not None
        return self.report.ladder.climbs

    @property
    def manifest(self) -> SnapshotManifest:
        """The snapshot."""
        assert self.report.manifest is not None
        return self.report.manifest

    def rows(self, split: Split) -> tuple[Row, ...]:
        """Rows of a split."""
        return tuple(data.load_rows(self.manifest, self.deps.artifacts, split))

    def best(self, metric: str) -> Climb:
        """The rung with the highest value on dev."""
        return max(self.climbs, key=lambda climb: climb.evidence.metrics[metric].value)

    def measured(self, climb: Climb, rows: Sequence[Row], spec: MeasureSpec) -> tuple[ItemResult, ...]:
        """The items of ``rows``, answered by the candidate of a rung, 32 at a time. It opens no sealed test: what is measured here chooses
        nothing."""
        servable = self._servable(climb, spec)
        engine = self.deps.engine()
        engine.load(servable)
        say(f"  measuring {climb.rung.value} {climb.variant} on {len(rows)} rows")
        try:
            asked = PredictionRequest(engine, servable, tuple(rows), lambda *_: None, Sampling(max_tokens=256), timed=0)
            return item_results(rows, engine_predictions(asked), spec)
        finally:
            engine.unload(servable.id)

    def _servable(self, climb: Climb, spec: MeasureSpec) -> Servable:
        store = self.deps.artifacts
        with self.deps.ledger.work(TENANT, write=False) as work:
            candidate = work.records.get(Candidate, climb.candidate)
        return Servable(
            id=digest_of(candidate),
            tenant=TENANT,
            task=spec.task,
            base=str(store.get_tree(candidate.base_model)),
            adapter=str(store.get_tree(candidate.adapter)) if candidate.adapter else None,
            weights=str(store.get_tree(candidate.weights)) if candidate.weights else None,
            prompt=candidate.prompt,
            retrieval=rungs.local_retrieval(candidate.retrieval, store) if candidate.retrieval else None,
        )


def climbed(name: str, objective: dict[str, Any], files: dict[str, str]) -> Climbed:
    """Climbs for an objective whose files have these texts; the same again finds what is done."""
    folder = WORK / name
    if not (folder / "settings.yaml").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        models = Path(os.environ.get("TAILORBIRD_MODELS", ROOT / ".cache" / "models"))
        settings.save_settings(folder, {"tenant": TENANT, "model_cache": str(models)})
    job = folder / "job"
    job.mkdir(exist_ok=True)
    for file, text in files.items():
        (job / file).write_text(text, encoding="utf-8")
    path = job / "objective.yaml"
    path.write_text(yaml.safe_dump(objective, sort_keys=False, allow_unicode=True), encoding="utf-8")
    deps = wiring.open_dependencies(settings.load_settings(folder))
    if not key_path(deps, TENANT, "author").is_file():
        initialise(deps, TENANT, FIRST_PEOPLE)
    author = act_as(deps, TENANT, "author", key_path(deps, TENANT, "author"))
    done = adapt(deps, author, path, Progress(tell=lambda text: say(f"  {text}")))
    return Climbed(deps, author, show_run(deps, author, done.run.id))


def by_cluster(items: Sequence[ItemResult], clusters: dict[str, str]) -> list[ItemResult]:
    """Items whose group is the cluster of their row, for intervals that are clustered by it."""
    return [item.model_copy(update={"group": clusters[item.item]}) for item in items]
