"""What training may have cost, measured where the objective sets a limit on it: retention and memorisation.

In: a stage, a candidate and its evidence on dev. Out: the same evidence with what was measured, or with the reason why it was not. Must not
know: probes, canaries, verdicts.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tailorbird import evaluation
from tailorbird.domain.deployment import Servable
from tailorbird.domain.evidence import Evidence, Metric
from tailorbird.domain.ladder import Candidate
from tailorbird.domain.prompt import PromptSpec
from tailorbird.domain.run import TrainingReport
from tailorbird.domain.value import Digest
from tailorbird.foundations.canaries import aviary
from tailorbird.foundations.canonical import canonical_json, digest_of
from tailorbird.foundations.statistics import spend
from tailorbird.lifecycle.steps.stage import Stage

#: The limits that are measured here.
SAFETY = ("retention", "memorisation")


def asked_for(stage: Stage) -> tuple[str, ...]:
    """The limits of this kind that the objective sets."""
    limits = stage.objective.limits
    return tuple(name for name in SAFETY if getattr(limits, name) is not None)


def task_files(stage: Stage) -> tuple[Path, ...]:
    """The harness's task files that the objective names."""
    retention = stage.objective.limits.retention
    return tuple(Path(stage.file.folder) / name for name in (retention.tasks if retention else ()))


def put_off(evidence: Evidence, names: tuple[str, ...]) -> Evidence:
    """The evidence with the reason why ``names`` were not measured: what fails already is not measured further."""
    reason = "is not measured: a target or another limit fails already"
    return evidence.model_copy(update={"unmeasured": evidence.unmeasured | {name: f"{name} {reason}" for name in names}})


def with_safety(stage: Stage, candidate: Candidate, training: Digest | None, evidence: Evidence) -> Evidence:
    """Measures what the objective limits. A candidate without weights of its own has lost nothing and has learned nothing by heart."""
    for name in asked_for(stage):
        if candidate.adapter is None and candidate.weights is None:
            evidence = _with(evidence, _untouched(name))
        elif name == "retention":
            evidence = _with_retention(stage, candidate, evidence)
        else:
            evidence = _with_memorisation(stage, candidate, training, evidence)
    return evidence


def carried(known: Evidence, evidence: Evidence, stage: Stage) -> Evidence:
    """``evidence`` with what was measured of the same candidate before: it does not rest on the split."""
    for name in asked_for(stage):
        if name in known.metrics:
            evidence = _with(evidence, known.metrics[name])
    fields = ("retention", "memorisation")
    update = {field: getattr(known, field) for field in fields} | {"unmeasured": evidence.unmeasured | known.unmeasured}
    return evidence.model_copy(update=update)


def _with_retention(stage: Stage, candidate: Candidate, evidence: Evidence) -> Evidence:
    base = _base_servable(stage, candidate)
    stage.progress.tell("measuring what the base model could do and the candidate still can")
    with _loaded(stage, base, stage.servable(candidate)):
        engine, tell, tasks = stage.parts.engine(), stage.progress.count, task_files(stage)
        more = (lambda servable, told: stage.parts.harness().ask(engine, servable, tasks, told)) if tasks else None
        found = evaluation.measure_retention(engine, base.id, digest_of(candidate), _confidence(stage), tell, more)
    kept = stage.parts.artifacts.put(canonical_json(found))
    return _with(evidence, evaluation.retention_metric(found)).model_copy(update={"retention": kept})


def _with_memorisation(stage: Stage, candidate: Candidate, training: Digest | None, evidence: Evidence) -> Evidence:
    stage.progress.tell("looking for the strings that were planted in training")
    servable = stage.servable(candidate)
    with _loaded(stage, servable):
        found = evaluation.measure_memorisation(
            stage.parts.engine(), servable, aviary(stage.objective.seed), _received(stage, training), _confidence(stage)
        )
    kept = {"memorisation": stage.parts.artifacts.put(canonical_json(found))}
    reason = evaluation.why_invalid(found)
    if reason and not found.extracted:
        return evidence.model_copy(update=kept | {"unmeasured": evidence.unmeasured | {"memorisation": reason}})
    return _with(evidence, evaluation.memorisation_metric(found)).model_copy(update=kept)


def _received(stage: Stage, training: Digest | None) -> bool:
    """True when a whole pass over the rows, planted ones among them, lies before the weights that were kept: rows are never cut or left
    out, so each has carried loss by then."""
    if training is None:
        return False
    report = stage.record(TrainingReport, training)
    epochs = {digest_of(rung.training): rung.training.epochs for rung in (stage.plan.rungs if stage.plan else ()) if rung.training}
    planned = report.steps - (report.plateau.added if report.plateau else 0)
    return report.settings in epochs and report.best_step * epochs[report.settings] >= planned


def _confidence(stage: Stage) -> float:
    return spend(stage.objective.business.risk.confidence, 1)


def _base_servable(stage: Stage, candidate: Candidate) -> Servable:
    """The candidate's base model alone, without any prompt of the task."""
    return Servable(
        id=digest_of({"base": candidate.base_model}),
        tenant=stage.run.tenant,
        task=stage.objective.task.kind,
        base=str(stage.parts.artifacts.get_tree(candidate.base_model)),
        adapter=None,
        weights=None,
        prompt=PromptSpec(instruction=""),
    )


@contextmanager
def _loaded(stage: Stage, *servables: Servable) -> Iterator[None]:
    engine = stage.parts.engine()
    try:
        for servable in servables:
            engine.load(servable)
        yield
    finally:
        for servable in servables:
            engine.unload(servable.id)


def _untouched(name: str) -> Metric:
    """Nothing was trained: nothing can have changed."""
    return Metric(name=name, value=0.0, low=0.0, high=0.0, confidence=0.999, n=0, method="weights unchanged")


def _with(evidence: Evidence, metric: Metric) -> Evidence:
    return evidence.model_copy(update={"metrics": evidence.metrics | {metric.name: metric}})
