"""The release that answers now, on the same items as the candidate that would replace it.

In: a stage whose candidate was measured on the sealed test. Out: the evidence with a paired difference to the incumbent, and the
incumbent's item results. Must not know: verdicts. The incumbent chooses nothing by it, so this is no look of its own.
"""

from __future__ import annotations

from tailorbird import evaluation
from tailorbird.domain.dataset import Split
from tailorbird.domain.errors import Conflict, NotFound, TailorbirdError
from tailorbird.domain.evidence import Comparison, Evidence, Metric
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.prompt import Sampling
from tailorbird.domain.release import Release
from tailorbird.domain.value import Digest
from tailorbird.foundations.canonical import short
from tailorbird.foundations.statistics import spend
from tailorbird.lifecycle.climbing.measuring import as_lines, rule_of, spec_of
from tailorbird.lifecycle.releasing.admission import admit
from tailorbird.lifecycle.steps.stage import Stage
from tailorbird.ports.engine import LoadRequest

#: The name under which the difference to the incumbent stands at the gate.
AGAINST = "against_incumbent"


def incumbent_of(stage: Stage) -> Release | None:
    """The release in production under the objective's name, where it does the same kind of task."""
    with stage.parts.ledger.work(stage.run.tenant, write=False) as work:
        try:
            alias = work.aliases.get(stage.objective.name)
        except NotFound:
            return None
        releases = [work.releases.get(target.release) for target in alias.targets]
    return next((release for release in releases if release.content.task is stage.objective.task.kind), None)


def against_incumbent(stage: Stage, evidence: Evidence, look: int) -> Evidence:
    """The evidence with how the candidate stands to the incumbent; unchanged where nothing answers yet.

    Raises Conflict (``incumbent_unmeasured``) where the incumbent cannot be measured: no candidate passes by a limit that nobody looked at.
    """
    release = incumbent_of(stage)
    if release is None or release.content.candidate == evidence.candidate:
        return evidence
    try:
        items = _items(stage, release, evidence.split, look)
    except TailorbirdError as error:
        raise Conflict(
            f"release {short(release.digest)}, which answers now, cannot be measured beside the candidate: {error.message}",
            f"{error.hint}; or take it back: tailorbird rollback {stage.objective.name}; then adapt again: it goes on from here",
            code="incumbent_unmeasured",
        ) from error
    theirs = evidence.model_copy(update={"refer_below": release.content.refer_below})
    rule = rule_of(stage, evidence, theirs, spend(stage.objective.business.risk.confidence, look))
    found = evaluation.compare(evidence.candidate, release.content.candidate, stage.items(evidence.items), stage.items(items), rule)
    told = evidence.model_copy(update={"incumbent": items, "incumbent_release": release.digest, "against_incumbent": found})
    if found.reason:
        return told.model_copy(update={"unmeasured": evidence.unmeasured | {AGAINST: found.reason}})
    return told.model_copy(update={"metrics": evidence.metrics | {AGAINST: _metric(found)}})


def _items(stage: Stage, release: Release, split: Split, look: int) -> Digest:
    """The incumbent's item results, as an artifact."""
    servable = admit(stage.parts, LoadRequest(tenant=stage.run.tenant, release=release.digest, purpose="production"))
    engine, rows = stage.parts.engine(), stage.rows(split)
    stage.progress.tell(f"measuring release {short(release.digest)}, which answers now, on the same {len(rows)} items")
    engine.load(servable)
    try:
        ask = evaluation.ranked_predictions if stage.objective.task.kind is TaskKind.RANK else evaluation.engine_predictions
        predictions = ask(
            evaluation.PredictionRequest(
                engine=engine, servable=servable, rows=rows, progress=stage.progress.count, sampling=Sampling(max_tokens=256), timed=0
            )
        )
    finally:
        engine.unload(servable.id)
    return stage.parts.artifacts.put(as_lines(evaluation.results(rows, predictions, spec_of(stage, look))))


def _metric(found: Comparison) -> Metric:
    return Metric(
        name=AGAINST,
        value=found.difference,
        low=found.low,
        high=found.high,
        confidence=found.confidence,
        n=found.n,
        method="paired",
    )
