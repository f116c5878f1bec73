"""Provability check: refuses, before anything is spent, an objective that no candidate could prove.

A perfect candidate is put before the gate itself: it gives every answer that the rows hold, is sure of each, and is measured as any other.
What even it does not prove, on dev or on test, at the confidence of the first look, nothing can. So this follows the metrics and the gate
by itself, whatever becomes of them. Of the sealed test no text is read and no candidate is asked.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

from tailorbird import data, release
from tailorbird.chat.conversations import earlier_answers
from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.curation import CurationReport
from tailorbird.domain.dataset import Row, SnapshotManifest, Split
from tailorbird.domain.errors import Exhausted
from tailorbird.domain.evidence import Evidence, Finding, ItemResult, Prediction, ScopeRule, ScopeScorer, Verdict
from tailorbird.domain.ladder import Climb, RungKind
from tailorbird.domain.objective import Objective, TaskKind
from tailorbird.domain.plan import PreflightFinding, PreflightSeverity, amount
from tailorbird.domain.value import Digest
from tailorbird.evaluation.measure_spec import MeasureSpec
from tailorbird.evaluation.metrics import SCOPE_METRICS, item_results, lower_is_better, named_metrics, relevance_of
from tailorbird.evaluation.retention import probe_names
from tailorbird.evaluation.scope import scope_metrics
from tailorbird.evaluation.serving_limits import fewest_requests
from tailorbird.objective import Fault, raise_faults
from tailorbird.stats.design_effect import are_worth_less
from tailorbird.stats.intervals import spend
from tailorbird.stats.paired_tests import paired_interval
from tailorbird.stats.roc import ScoredRows, fewest_to_refuse
from tailorbird.text.regex import occurs
from tailorbird.text.words import normalise
from tailorbird.usecases.anchored_rows import looks_taken
from tailorbird.usecases.runs import transitions
from tailorbird.usecases.runs.context import StepContext
from tailorbird.usecases.runs.measurement import ItemsOf, incumbent_of

#: Nats of an answer that a perfect candidate does not give.
_NEVER = -60.0
#: Items that make two bins, without which there is no ``ece``.
_TWO_BINS = 40
#: Items of a label that a split should hold, and labels that a warning names.
_FEW_ITEMS, _NAMED_LABELS = 5, 5


def check_provable(context: StepContext, manifest: SnapshotManifest, items: ItemsOf) -> None:
    """Raises ObjectiveInvalid at the line of each KPI or limit that a perfect candidate could not prove. Tells where the next look at the
    sealed test could prove nothing."""
    rows = {split: _usual_rows(items(split), manifest) for split in (Split.DEV, Split.TEST)}
    objective, file = context.objective, context.file
    found: dict[int, Fault] = {}
    for place, message, hint in _targets(objective, manifest, rows):
        found.setdefault(line := file.line_of(place), Fault(line, message, hint))
    for place, message, hint in (
        *_latency(context, manifest, len(rows[Split.DEV])),
        *_cost(context),
        *_retention(objective),
        *_referral(context, manifest, items),
        *_out_of_scope(context, manifest, rows),
    ):
        found.setdefault(line := file.line_of(place), Fault(line, message, hint))
    raise_faults(file.source, [found[line] for line in sorted(found)])
    _tell_of_next_look(context, manifest, rows[Split.TEST])


def _targets(objective: Objective, manifest: SnapshotManifest, rows: Mapping[Split, Sequence[Row]]) -> Iterator[tuple[str, str, str]]:
    """Each target once, by the split that can prove the least of it: what that can, the other can too."""
    worst: dict[str, tuple[float, Finding, Split]] = {}
    for split, some in rows.items():
        if not some:
            yield "kpis.0.target", f"{split.value} holds no rows, and can prove nothing", "bring more rows"
        for finding in unprovable(objective, manifest, some, 1) if some else ():
            less = lower_is_better(finding.name)
            end = finding.high if less else finding.low
            reached = -math.inf if end is None else -end if less else end
            if finding.name not in worst or reached < worst[finding.name][0]:
                worst[finding.name] = reached, finding, split
    for _, finding, split in worst.values():
        groups = data.group_sizes(rows[split], many=False)(None)
        yield _place(objective, finding), _message(finding, split, objective, groups), _hint(finding, split, objective, groups)


def _usual_rows(items: Sequence[Row], manifest: SnapshotManifest) -> tuple[Row, ...]:
    return tuple(row for row in items if not row.shifted and manifest.is_known(row))


def thin_labels_finding(manifest: SnapshotManifest) -> PreflightFinding | None:
    """A warning where dev or test hold less than half of their share of a label's rows, and fewer than five: groups of like rows stay
    together, so that few large groups divide unevenly."""
    thin: dict[str, str] = {}
    for label, counts in sorted(manifest.label_counts.items()):
        rows = counts.train + counts.dev + counts.test
        for split in (Split.DEV, Split.TEST):
            held = getattr(counts, split.value) + (counts.train if label == manifest.outside and split is Split.DEV else 0)
            share = rows * getattr(manifest.counts, split.value) / max(1, manifest.size)
            if held < _FEW_ITEMS <= share and held < share / 2:
                thin.setdefault(label, f"{label!r}: {held} of {rows} rows in {split.value}")
    if not thin:
        return None
    named = list(thin.values())[:_NAMED_LABELS]
    more = f", and {len(thin) - len(named)} more labels" if len(thin) > len(named) else ""
    return PreflightFinding(
        code="label_split_uneven",
        severity=PreflightSeverity.WARNING,
        what=f"some labels are hardly measured, for their rows are so alike that they stay in one split: {'; '.join(named)}{more}",
        remedy="bring rows of these labels that differ more, or an official test set with `split: test`",
    )


def trivial_target_finding(objective: Objective, manifest: SnapshotManifest) -> PreflightFinding | None:
    """A warning where the only target is one on accuracy that the commonest label reaches, given to every item."""
    counts = {label: splits.dev + splits.test for label, splits in manifest.label_counts.items()}
    if {kpi.metric for kpi in objective.kpis} != {"accuracy"} or objective.task.labels != "one" or not sum(counts.values()):
        return None
    common = max(sorted(counts), key=lambda label: counts[label])
    share, target = counts[common] / sum(counts.values()), max(kpi.target for kpi in objective.kpis)
    if target > share:
        return None
    return PreflightFinding(
        code="target_trivial",
        severity=PreflightSeverity.WARNING,
        what=f"accuracy {target:g} is reached by answering {common[:40]!r} whatever is asked: it is right of {share:.3f} of dev and test",
        remedy="set the target above that, or one on macro_f1, balanced_accuracy, or recall[LABEL] of the labels that matter",
    )


def untested_answers_finding(context: StepContext) -> PreflightFinding | None:
    """A warning where conversations hold answers that are neither learned nor measured, since the last of each is."""
    if context.manifest.answers != "last" or not any(source.messages for source in context.objective.data):
        return None
    rows = [row for split in (Split.TRAIN, Split.DEV) for row in data.load_rows(context.manifest, context.deps.artifacts, split)]
    earlier = sum(len(earlier_answers(row.text)) for row in rows)
    if not earlier:
        return None
    return PreflightFinding(
        code="answers_untested",
        severity=PreflightSeverity.WARNING,
        what=f"of {earlier + len(rows):,} answers of the assistant in train and dev, {earlier:,} are neither learned nor tested: "
        "with `learn: last` the last of each conversation is, and what it would say before that is anybody's guess",
        remedy="write `learn: all` under `task`, unless it is only asked for the last answer",
    )


def unprovable(objective: Objective, manifest: SnapshotManifest, rows: Sequence[Row], look: int) -> list[Finding]:
    """KPIs, and the limit of a referral, that a perfect candidate would not pass on ``rows`` at this look."""
    names = {kpi.metric for kpi in objective.kpis if kpi.metric not in SCOPE_METRICS} | (
        {"selective_risk"} if _max_error(objective) else set()
    )
    spec = _spec(objective, manifest, look)
    items = _perfect_items(rows, manifest, objective, spec)
    nobody = digest_of({"candidate": "perfect"})
    evidence = Evidence(
        candidate=nobody,
        split=rows[0].split,
        n=len(rows),
        metrics=named_metrics(items, spec, names),
        items=nobody,
        seconds=0.0,
        engine="",
    )
    judged = release.apply_gate(release.GateInputs(objective=objective, evidence=evidence, look=look)).findings
    return [each for each in judged if each.name in names and each.verdict is not Verdict.PASS]


def _perfect_items(rows: Sequence[Row], manifest: SnapshotManifest, objective: Objective, spec: MeasureSpec) -> list[ItemResult]:
    """What a perfect candidate is measured to do, sorted by item id. A label is measured once: for whichever row it is the same."""
    if objective.task.kind is not TaskKind.CLASSIFY or not rows:
        found = item_results(rows, [_perfect(row, manifest, objective) for row in rows], spec)
        return [_best(item, objective) for item in found]
    first = {row.answer: row for row in rows}
    measured = {answer: item_results([row], [_perfect(row, manifest, objective)], spec)[0] for answer, row in first.items()}
    ordered = sorted(rows, key=lambda row: row.id)
    return [measured[row.answer].model_copy(update={"item": row.id, "group": row.group}) for row in ordered]


def _spec(objective: Objective, manifest: SnapshotManifest, look: int) -> MeasureSpec:
    return MeasureSpec(
        task=objective.task.kind,
        labels=manifest.labels,
        confidence=spend(objective.business.risk.confidence, look),
        seed=objective.seed,
        price_per_hour=0.0,
        many=objective.task.labels == "many",
        refer_below=0.0 if _max_error(objective) else None,
        form=objective.task.format,
        order=objective.task.label_order,
        refer_pattern=objective.referral.pattern if objective.referral else None,
    )


def _max_error(objective: Objective) -> float | None:
    return objective.referral.max_error if objective.referral else None


def _perfect(row: Row, manifest: SnapshotManifest, objective: Objective) -> Prediction:
    """The row's own answer, given with certainty; documents in the order of their grades."""
    if objective.task.kind is TaskKind.RANK:
        grades = relevance_of(row.answer)
        ranking = tuple(sorted((name for name, grade in grades.items() if grade > 0), key=lambda name: (-grades[name], name)))
        return Prediction(item=row.id, answer=ranking[0] if ranking else "", ranking=ranking)
    if objective.task.kind is TaskKind.GENERATE:
        return Prediction(item=row.id, answer=row.answer)
    chances = dict.fromkeys(manifest.labels if objective.task.labels == "one" else (), _NEVER) | {row.answer: 0.0}
    return Prediction(item=row.id, answer=row.answer, log_probabilities=chances)


def _best(item: ItemResult, objective: Objective) -> ItemResult:
    """Scores that do not follow from the reference alone at their best: its form, its words in passages, whether it declines."""
    if objective.task.kind is not TaskKind.GENERATE:
        return item
    formed = {"format_valid": 1.0} if objective.task.format else {}
    return item.model_copy(update={"scores": item.scores | formed | {"groundedness": 1.0, "refusal_rate": 0.0}})


def _place(objective: Objective, finding: Finding) -> str:
    index = next((index for index, kpi in enumerate(objective.kpis) if kpi.metric == finding.name), None)
    return f"kpis.{index}.target" if index is not None and finding.kind == "kpi" else "referral.max_error"


def _message(finding: Finding, split: Split, objective: Objective, groups: Sequence[int]) -> str:
    sign = "<=" if lower_is_better(finding.name) else ">="
    confidence = spend(objective.business.risk.confidence, 1)
    what = f"{split.value} cannot prove {finding.name} {sign} {finding.bound:g} at {confidence:.1%} confidence"
    if finding.value is None or finding.low is None or finding.high is None:
        return f"{what}: too few of its rows bear on it, whatever a candidate answers"
    end = f"at most {finding.high:.3f}" if lower_is_better(finding.name) else f"at least {finding.low:.3f}"
    alike = are_worth_less(groups)
    among = f" in {len(groups):,} groups, the largest of {max(groups):,} rows that are nearly alike or of one subject," if alike else ""
    return f"{what}: a perfect candidate on its {finding.n} rows{among} would be proven to have {end}"


def _hint(finding: Finding, split: Split, objective: Objective, groups: Sequence[int]) -> str:
    needed = _needed(finding, spend(objective.business.risk.confidence, 1))
    more = f"bring more rows, so that {split.value} holds at least {needed:,} that bear on it" if needed else ""
    if needed and are_worth_less(groups):
        more = "bring rows that differ more (in words, and not in numbers or codes alone), or of more subjects"
    if finding.low is None or finding.high is None:
        return more or "bring more rows that bear on it, or remove the target"
    if lower_is_better(finding.name):
        nearest = f"raise the target to {math.ceil(1000 * finding.high) / 1000:g}"
    else:
        lowered = math.floor(1000 * finding.low) / 1000
        nearest = f"lower the target to {lowered:g}" if lowered > 0 else ""
    by_hand = f" (a source with `split: {split.value}` puts its rows there)" if more else ""
    return " or ".join(part for part in (more + by_hand, nearest) if part) or "remove the target"


def _needed(finding: Finding, confidence: float) -> int | None:
    """Rows with which a perfect candidate would do, from Wilson's interval at 0 or 1: n ≥ z² b / (1 − b). None where perfection is no 0
    or 1, or no number of rows would do."""
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    if finding.value is None or finding.low is None or finding.high is None:
        return _TWO_BINS if finding.name == "ece" else None
    gap = finding.bound if finding.value == 0 else 1 - finding.bound
    return math.ceil(z2 * (1 - gap) / gap) if finding.value in (0.0, 1.0) and 0 < gap < 1 else None


def _latency(context: StepContext, manifest: SnapshotManifest, dev: int) -> Iterator[tuple[str, str, str]]:
    """A limit on latency needs requests: as many texts as bound the percentile, each asked once."""
    if context.objective.limits.latency_p95_ms is None:
        return
    confidence = context.confidence()
    needed, texts = fewest_requests(confidence), manifest.learned_rows + dev
    if texts < needed:
        message = f"{needed} requests bound a 95th percentile at {confidence:.1%} confidence, and train and dev hold {texts} texts to ask"
        yield "limits.latency_p95_ms.max", message, f"bring at least {needed - texts} more rows, or remove the limit"


def _cost(context: StepContext) -> Iterator[tuple[str, str, str]]:
    """Whatever takes time costs something, unless the machine costs nothing."""
    limit, price = context.objective.limits.cost_per_1k_requests, context.deps.prices.per_hour
    if limit is not None and limit.max == 0 and price > 0:
        message = f"no answer costs nothing: an hour of this machine costs {price:g}"
        yield "limits.cost_per_1k_requests.max", message, "write an amount above 0, or remove the limit"


def _retention(objective: Objective) -> Iterator[tuple[str, str, str]]:
    """A drop that is not proven even where candidate and base never differ on a probe. Prompts have weights that nobody changed."""
    limit = objective.limits.retention
    untouched = objective.ladder != "auto" and set(objective.ladder) <= _UNTRAINED
    if limit is None or untouched:
        return
    confidence, asked = spend(objective.business.risk.confidence, 1), probe_names()
    proven = paired_interval([0.0] * len(asked), asked, confidence)[1]
    if proven > limit.max_drop:
        nearest = math.ceil(1000 * proven) / 1000
        message = (
            f"{len(asked)} probes cannot prove a drop of at most {limit.max_drop:g} at {confidence:.1%} confidence: "
            f"a trained candidate that never differs from its base would be proven to drop at most {proven:.4f}"
        )
        yield "limits.retention.max_drop", message, f"the nearest valid value is {nearest:g}"


def _referral(context: StepContext, manifest: SnapshotManifest, items: ItemsOf) -> Iterator[tuple[str, str, str]]:
    """A model that is never shown when to hand over will not."""
    pattern = context.objective.referral.pattern if context.objective.referral else None
    if pattern is None or any(occurs(pattern, row.answer) for row in _usual_rows(items(Split.TRAIN), manifest)):
        return
    message = f"the pattern occurs in none of the answers of {manifest.counts.train:,} training rows: nothing shows when to hand over"
    yield "referral.pattern", message, "bring rows whose answer hands the conversation over, or correct the pattern"


def _out_of_scope(context: StepContext, manifest: SnapshotManifest, rows: Mapping[Split, Sequence[Row]]) -> Iterator[tuple[str, str, str]]:
    """A threshold that dev has too few rows for, and targets that a rule which makes no mistake would not prove."""
    objective, policy = context.objective, context.objective.task.out_of_scope
    if policy is None:
        return
    at_most, needed = policy.refuse_known_at_most, fewest_to_refuse(policy.refuse_known_at_most)
    if (held := len({row.group for row in rows[Split.DEV]})) < needed:
        message = (
            f"a threshold at which {at_most:g} of requests are refused takes {needed:,} groups of rows of dev that bear a label: "
            f"it holds {held:,}"
        )
        nearest = math.ceil(1000 / (held + 1)) / 1000
        hint = f"bring at least {needed - held:,} more rows for dev, of other groups, or refuse at most {nearest:g}"
        yield "task.out_of_scope.refuse_known_at_most", message, hint
        return
    for split in (Split.DEV, Split.TEST):
        for finding in _unprovable_scope(context, manifest, split, [row.group for row in rows[split]]):
            hint = _hint(finding, split, objective, ())
            if finding.value is None:
                hint = "bring examples: a source with `out_of_scope: true`, or rows that bear the label of that; or remove the target"
            yield _place(objective, finding), _message(finding, split, objective, ()), hint


def _unprovable_scope(context: StepContext, manifest: SnapshotManifest, split: Split, known: Sequence[str]) -> list[Finding]:
    """Targets on requests out of scope that no rule would reach; ``known`` are the groups of the rows that bear a label."""
    objective, splits = context.objective, (split, Split.TRAIN) if split is Split.DEV else (split,)
    found = [row for each in splits for row in data.load_rows(manifest, context.deps.artifacts, each) if not manifest.is_known(row)]
    scorer = next(iter(ScopeScorer))
    at_most = objective.task.out_of_scope.refuse_known_at_most if objective.task.out_of_scope else 0.0
    # The threshold refuses the stated share of what labels fit, however well the candidate tells.
    refused = max(0, int(at_most * (len(known) + 1) + 1e-9) - 1)
    usual = ScoredRows([{scorer: 0.4 if place < refused else 1.0} for place in range(len(known))], known)
    sides = [usual, ScoredRows([{scorer: 0.0}] * len(found), [row.group for row in found])]
    confidence = spend(objective.business.risk.confidence, 1)
    metrics = {each.name: each for each in scope_metrics(ScopeRule(scorer=scorer, refuse_below=0.5), sides[0], sides[1], confidence)}
    nobody = digest_of({"candidate": "perfect"})
    evidence = Evidence(candidate=nobody, split=split, n=len(known), metrics=metrics, items=nobody, seconds=0.0, engine="")
    judged = release.apply_gate(release.GateInputs(objective=objective, evidence=evidence, look=1)).findings
    return [each for each in judged if each.name in SCOPE_METRICS and each.verdict is not Verdict.PASS]


#: Rungs that change no weight of the base model.
_UNTRAINED = frozenset({
    *(RungKind.FLOOR, RungKind.ENCODER, RungKind.SEARCH, RungKind.PROMPT, RungKind.NEAREST, RungKind.GROUNDING, RungKind.HOSTED),
    RungKind.PROMPT_SEARCH,
})  # fmt: skip


def _tell_of_next_look(context: StepContext, manifest: SnapshotManifest, rows: Sequence[Row]) -> None:
    """Earlier looks made the next one stricter. It is told, and not refused: the same candidate on the same rows is looked at again for
    nothing."""
    with context.deps.ledger.work(context.run.tenant, write=False) as work:
        look = looks_taken(work, context.objective.name) + 1
    if look == 1 or not rows:
        return
    open_ = [each.name for each in unprovable(context.objective, manifest, rows, look)]
    if open_:
        told = f"look {look} at the sealed test could not prove {', '.join(open_)}, whatever a new candidate answers"
        context.progress.tell(f"{told}: bring more test rows, or lower the target")


#: A share of the rows that is worth a word.
_SHARE = 0.01


class Contradictions(NamedTuple):
    """Of ``rows`` so many have a text that others label otherwise; ``right`` is how many one answer for each text suits at most, of all
    rows. ``first`` are the places of two of them, ``FILE:LINE``."""

    rows: int
    right: int
    first: tuple[str, ...] = ()


def contradictions(rows: Iterable[Row]) -> Contradictions | None:
    """What rows with one text (case and white space aside) and several labels cost; None where that is less than a hundredth."""
    by_text: dict[str, list[Row]] = {}
    for row in rows:
        by_text.setdefault(normalise(row.text), []).append(row)
    size, found = sum(map(len, by_text.values())), [same for same in by_text.values() if len({row.answer for row in same}) > 1]
    lost = sum(len(same) - max(Counter(row.answer for row in same).values()) for same in found)
    if lost < max(1, _SHARE * size):
        return None
    first = min(sorted((row.provenance.file, row.provenance.line) for row in same) for same in found)
    return Contradictions(sum(map(len, found)), size - lost, tuple(f"{file}:{line}" for file, line in first[:2]))


def contradicting_labels_finding(context: StepContext) -> PreflightFinding | None:
    """A warning where the rows of dev hold so many that the accuracy of any candidate is bounded by them. Of test no text is read."""
    manifest, artifacts = context.manifest, context.deps.artifacts
    if context.objective.task.kind is not TaskKind.CLASSIFY:
        return None
    if not CurationReport.model_validate_json(artifacts.get(manifest.curation)).conflicting_groups:
        return None
    rows = data.load_rows(manifest, artifacts, Split.DEV)
    found = contradictions(rows)
    if found is None:
        return None
    return PreflightFinding(
        code="labels_contradict",
        severity=PreflightSeverity.WARNING,
        what=f"{found.rows:,} of {len(rows):,} dev rows have the text of another row and another label ({' and '.join(found.first)}): "
        f"whatever a candidate answers, at most {found.right / len(rows):.3f} of dev is right, and train and test are probably no better",
        remedy="decide which label each text has (or whether an item may have several: `labels: many`), and curate the data again",
    )


def look_money(context: StepContext, climb: Climb) -> float:
    """What endpoints will be paid for a look at a candidate, and for the incumbent on the same items: as a request was paid for on dev, or
    in the incumbent's own test. As many further requests are timed as on dev."""
    release = incumbent_of(context)
    asked = release is not None and release.content.hosted is not None and release.content.candidate != climb.candidate
    theirs = context.record(Evidence, release.dossier.test_evidence) if release is not None and asked else None
    items = len(context.rows(Split.TEST))
    asked_on_dev = climb.evidence.hosted.requests if climb.evidence.hosted is not None else 0
    further = max(0, asked_on_dev - climb.evidence.n - len(context.shifted_rows(Split.DEV)))
    ours = (items + len(context.shifted_rows(Split.TEST)) + further) * _of_request(climb.evidence)
    return ours + items * _of_request(theirs)


def demand_look_money(context: StepContext, climb: Climb) -> None:
    """Raises Exhausted (``budget_spent``) where a look would cost more than is left: it would end without a verdict."""
    money, left, currency = look_money(context, climb), _left(context), context.objective.budget.currency
    if money > left:
        raise Exhausted(
            f"the sealed test would cost about {amount(money)} {currency} at endpoints, and {amount(left)} is left of the budget",
            "a larger budget in the objective is a new run",
            code="budget_spent",
        )


def unpayable(context: StepContext, climbs: Sequence[Climb]) -> dict[Digest, str]:
    """Candidates that pass on dev and whose look cannot be paid for: the reason, by candidate."""
    left, currency, found = _left(context), context.objective.budget.currency, dict[Digest, str]()
    for climb in climbs:
        if climb.gate.verdict is Verdict.PASS and (money := look_money(context, climb)) > left:
            told = f"a look at it would cost about {amount(money)} {currency} at endpoints, and {amount(left)} is left"
            found[climb.candidate] = f"{transitions.named(climb)} passes on dev, and {told}"
    return found


def _left(context: StepContext) -> float:
    return max(0.0, context.objective.budget.money - context.spent.money)


def _of_request(evidence: Evidence | None) -> float:
    hosted = evidence.hosted if evidence is not None else None
    return hosted.money / hosted.requests if hosted is not None and hosted.requests else 0.0
