"""Model card of a release in the form of the Hugging Face Hub: YAML front matter, then sections of Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from tailorbird.crypto.canonical_json import digest_bytes, digest_of
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.domain.evidence import Comparison, Evidence, Finding, GateResult, Metric
from tailorbird.domain.ladder import Allowance, Candidate, Climb, Ladder, RungKind
from tailorbird.domain.objective import Objective, TaskKind
from tailorbird.domain.release import ApprovalRule
from tailorbird.domain.scope import ScopeEvidence
from tailorbird.domain.value import Digest
from tailorbird.release.approvals import rule_for
from tailorbird.stats.comparison_sentences import difference_words
from tailorbird.text.markdown import markdown_table, markdown_text


@dataclass(frozen=True)
class CardEncoder:
    """The encoder that a linear model reads, or that it was tuned from: its files (tree) and terms."""

    name: str
    license: str
    digest: Digest


def title(objective: Objective, candidate: Candidate, base: BaseModelRef) -> str:
    """Title sentence of the card."""
    if not candidate.speaks:
        tuned = "An adapter of an encoder, tuned for the labels," if candidate.encoder else "An encoder tuned for the labels,"
        what = "A classical model" if candidate.rung is RungKind.FLOOR else f"{tuned} with a linear head"
        return (
            f"# {objective.tenant}/{objective.name}\n\n{what} ({candidate.variant}), which asks no language model, chosen by "
            "tailorbird as the cheapest way to meet the objective below."
        )
    if (hosted := candidate.hosted) is not None:
        passages = ", with passages of the documents" if candidate.retrieval else ""
        return (
            f"# {objective.tenant}/{objective.name}\n\nA prompt for `{markdown_text(hosted.model)}` at the endpoint `{hosted.endpoint}` "
            f"(rung {candidate.rung.value}, variant {candidate.variant}), a server outside the house at {markdown_text(hosted.url)}, "
            f"chosen by tailorbird as the cheapest way to meet the objective below. Every request that it answers is sent there{passages}."
        )
    kind = "A LoRA adapter for" if candidate.adapter else "Full weights, fine-tuned from" if candidate.weights else "A prompt for"
    return (
        f"# {objective.tenant}/{objective.name}\n\n{kind} `{base.name}` (rung {candidate.rung.value}, variant {candidate.variant}), "
        "chosen by tailorbird as the cheapest way to meet the objective below."
    )


def intended_use(objective: Objective, manifest: SnapshotManifest, candidate: Candidate) -> str:
    """The objective's goal, and where the use ends."""
    rows = [
        ("goal", objective.business.goal),
        ("answers for it", objective.business.owner),
        ("risk tier", objective.business.risk.value),
        ("task", objective.task.kind.value),
        ("instruction", objective.task.instruction),
    ]
    if candidate.prompt.instruction != objective.task.instruction:
        # Its words may come from training rows, and a signed card outlives their erasure.
        rows.append(("instruction as it was searched (digest)", digest_bytes(candidate.prompt.instruction.encode())))
    if candidate.proposer is not None:
        rows.append(
            ("who wrote it", f"{candidate.proposer.model} at the endpoint {candidate.proposer.endpoint} ({candidate.proposer.url})")
        )
    if manifest.labels:
        rows.append((f"labels ({len(manifest.labels)})", ", ".join(manifest.labels)))
    if objective.task.thinking:
        rows.append(("reasoning", "before each answer, and left out of it"))
    beyond = "Nothing outside this goal was measured: any other use needs an objective of its own."
    return f"## Intended use\n\n{markdown_table(('', ''), rows)}\n\n{beyond}"


def training_data(objective: Objective, manifest: SnapshotManifest, candidate: Candidate) -> str:
    """Counts, sources, terms and provenance; no text of any row."""
    sources = [(_file(s.path), s.source.origin, s.source.license, str(s.source.collected), s.source.consent) for s in objective.data]
    counts = manifest.counts
    learned = f"{candidate.trained_parameters:,} parameters were trained on the train split."
    if not candidate.trained_parameters:
        learned = f"No parameters were trained; {len(candidate.prompt.demonstrations)} training rows are shown in the prompt."
    cleaned = (
        f"Of {manifest.read:,} rows read, {manifest.duplicates:,} exact duplicates and {manifest.quarantined:,} quarantined rows were set "
        f"aside; {manifest.near_duplicate_groups:,} groups of near-duplicates were kept on one side of the split. "
        f"Train {counts.train:,}, dev {counts.dev:,}, test {counts.test:,} rows."
    )
    parts = ["## Training data", learned, markdown_table(("file", "origin", "licence", "collected", "consent"), sources), cleaned]
    if manifest.label_counts:
        rows = [(label, f"{c.train:,}", f"{c.dev:,}", f"{c.test:,}") for label, c in sorted(manifest.label_counts.items())]
        parts.append(markdown_table(("label", "train", "dev", "test"), rows))
    return "\n\n".join(parts)


def how_chosen(ladder: Ladder, objective: Objective, allowances: Sequence[Allowance] = ()) -> str:
    """The climb: every rung tried or refused, on the same development items."""
    metric = ladder.compared_on or objective.compare_on or objective.kpis[0].metric
    head = ("rung", "parameters trained", f"dev {metric}", "against the rung below", "gate", "decision")
    rows = [_climb_row(climb, metric, ladder.chosen) for climb in ladder.climbs]
    if ladder.floor:
        is_rung = ladder.floor_is_rung or ladder.floor.candidate == ladder.chosen
        row = _climb_row(ladder.floor, metric, ladder.chosen)
        rows.insert(0, row if is_rung else (*row[:5], "reference beside the ladder"))
    rows += [(refusal.name, "", "", "", refusal.verdict, refusal.reason) for refusal in ladder.refused]
    names = {climb.candidate: f"{climb.rung.value} {climb.variant}" for climb in ladder.measured}
    pairs = [f"{names.get(f.upper, '?')} against {names.get(f.lower, '?')}: {_difference(f)}" for f in ladder.on_shifted]
    shifted = f"\n\nIn pairs on the shifted part of dev: {'; '.join(pairs)}." if pairs else ""
    compared = f"Rungs are compared in pairs, on the same development items, by {metric}."
    allowed = "".join(f"\n\n{markdown_text(one.text)}." for one in allowances)
    return (
        f"## How it was chosen\n\n{compared}\n\n{markdown_table(head, rows)}\n\nDecision: {markdown_text(ladder.reason)}.{allowed}{shifted}"
    )


def evaluation(objective: Objective, evidence: Evidence, gate: GateResult) -> str:
    """The sealed test: what was demanded, and all that was measured."""
    look = (
        f"The sealed {gate.split.value} split ({evidence.n:,} items) was opened for this candidate (look {gate.look}). "
        f"The gate demands {gate.confidence:.0%} confidence, which this look had to meet at {gate.adjusted_confidence:.1%}. "
        f"Verdict: **{gate.verdict.value}**."
    )
    demands = markdown_table(("demand", "bound", "measured", "verdict", "reason"), [_finding_row(finding) for finding in gate.findings])
    metrics = [(m.name, f"{m.value:.4g}", f"{m.low:.4g} to {m.high:.4g}", f"{m.n:,}", m.method) for m in in_order(evidence, objective)]
    confidence = next((f" ({m.confidence:.0%})" for m in evidence.metrics.values()), "")
    table = markdown_table(("metric", "value", f"interval{confidence}", "items", "method"), metrics)
    return "\n\n".join(filter(None, ("## Evaluation", look, demands, table, _where_shifted(objective, evidence))))


def _where_shifted(objective: Objective, evidence: Evidence) -> str:
    """The KPIs on the part of the sealed test that stands for a world that has moved on."""
    found = [evidence.shifted_metrics[kpi.metric] for kpi in objective.kpis if kpi.metric in evidence.shifted_metrics]
    if not found or objective.split is None:
        return ""
    rows = [(m.name, f"{m.value:.4g}", f"{m.low:.4g} to {m.high:.4g}", f"{m.n:,}") for m in found]
    told = f"On the shifted part (column {markdown_text(objective.split.by)}), from which nothing was learned:"
    return f"{told}\n\n{markdown_table(('metric', 'value', 'interval', 'items'), rows)}"


def limits(objective: Objective, gate: GateResult, scope: ScopeEvidence | None = None) -> str:
    """The bounds beside the KPIs, what is out of scope, and what the numbers hold for."""
    judged = [finding for finding in gate.findings if finding.kind == "limit"]
    said = [f"- {markdown_text(finding.reason)}" for finding in judged] or ["- The objective states no limits beside its KPIs."]
    said += [f"- {markdown_text(line[:1].upper() + line[1:])}." for line in (scope.sentences if scope else ())]
    shape = "probabilities are over the listed labels alone" if objective.task.kind is TaskKind.CLASSIFY else "answers are generated text"
    holds = "- The measurements hold for data like the sealed test's, for this prompt, and for the engine that measured and serves it"
    return "\n".join(["## Limits", "", *said, f"{holds}; {shape}."])


def not_known(objective: Objective, candidate: Candidate, evidence: Evidence) -> str:
    """What nobody measured, said plainly."""
    unknown = []
    if candidate.trained_parameters and candidate.speaks and "retention" not in evidence.metrics:
        unknown.append("How much of the base model's general ability was forgotten was not measured.")
    if candidate.trained_parameters and candidate.speaks and "memorisation" not in evidence.metrics:
        unknown.append("Whether training rows can be extracted from the weights was not measured.")
    if candidate.hosted is not None:
        unknown += _not_known_of_server(evidence)
    if not candidate.speaks:
        unknown.append("The vocabulary of the model holds words and pairs of words of the training rows: treat its files as holding data.")
    if candidate.prompt.demonstrations:
        unknown.append("Rows shown in the prompt can be repeated by the model: treat the prompt as holding data.")
    if objective.referral and objective.referral.pattern:
        unknown.append("Answers that hand over to people are told by their words; how sure the model is of the others was not measured.")
    if objective.task.out_of_scope is not None and "out_of_scope_answered" not in evidence.metrics:
        unknown.append("How many requests out of scope get a label all the same was not measured: the data hold no examples of them.")
    elif objective.task.kind is TaskKind.CLASSIFY and objective.task.labels == "one" and objective.task.out_of_scope is None:
        unknown.append("A request that none of the labels fits gets one all the same: the objective does not ask to refuse it.")
    absent = [kpi.metric for kpi in objective.kpis if kpi.metric not in evidence.metrics]
    unknown += [f"{name} was not measured: too few items bear on it." for name in absent]
    unknown.append("How groups of people fare against one another was not measured.")
    beyond = " other than the shifted part did" if evidence.shifted else ""
    unknown.append(f"How the model does on data that drifts away from the sealed test's{beyond} is not known; watch it in production.")
    return "\n".join(["## What is not known", "", *(f"- {line}" for line in unknown)])


def _not_known_of_server(evidence: Evidence) -> list[str]:
    """What a hosted model leaves open, with how its server named it."""
    use = evidence.hosted
    told = (
        f"It answered as {', '.join(map(markdown_text, use.reported))}" if use and use.reported else "Its server does not say which model"
    )
    prints = f", under the fingerprint {use.named_fingerprints(markdown_text)}" if use and use.fingerprints else ""
    return [
        f"{told}{prints}: who runs it may change what answers, and only a change of that name is noticed.",
        "What its server keeps of requests is its contract's matter; what was sent there cannot be called back.",
    ]


def approvals(objective: Objective, rule: ApprovalRule, remarks: Sequence[str] = ()) -> str:
    """Who must agree before it may answer users, and what keeps their approvals from proving it. ``rule`` is that of the objective and of
    what the release would replace."""
    own, tier = rule_for(objective), objective.business.risk.value
    needed = f"At risk tier {tier}: {_approvers(own)}, none of them the author."
    if rule != own:
        needed += f" It would replace a release whose rule is stricter; while that one answers: {_approvers(rule)}."
    else:
        needed += " Where it comes to replace a release whose rule is stricter, that rule holds."
    excepted = [
        f"- {markdown_text(e.rule.replace('_', ' '))}, decided by {markdown_text(e.by)}: {markdown_text(e.because)}"
        for e in objective.exceptions
    ]
    without = "\n\nRules of this tier that are not followed:\n\n" + "\n".join(excepted) if excepted else ""
    worth = "".join(f"\n\nWhen this card was written, {markdown_text(remark)}." for remark in remarks)
    seen = "\n\nWhether private keys lie together was looked at on the machine that wrote this card, and on no other."
    return (
        f"## Approvals needed\n\n{needed} Each signs this release's digest with a key of their own; engines check the signatures before "
        "they load it for production."
        f"{without}{worth}{seen}"
    )


def _approvers(rule: ApprovalRule) -> str:
    people = "1 person" if rule.count == 1 else f"{rule.count} different people"
    distinct = f", in {rule.distinct_roles} different roles" if rule.distinct_roles > 1 else ""
    return f"{people} in the role {' or '.join(role.value for role in rule.roles)}{distinct}"


def taking_back(objective: Objective) -> str:
    """How to undo a promotion."""
    path = f"{objective.tenant}/{objective.name}"
    return (
        f"## How to take it back\n\n    tailorbird rollback {path}\n\nThe name `{path}` then answers with the release before this one, "
        "or with none where there was none. Requests in flight end on the release that admitted them."
    )


def provenance(
    objective: Objective, manifest: SnapshotManifest, base: BaseModelRef, candidate: Candidate, encoder: CardEncoder | None
) -> str:
    """Digests from which the release can be made again. A linear model needs no base model; it may hold an ``encoder``."""
    model = [
        ("base model", base.digest),
        ("tokenizer", base.tokenizer_digest),
        (f"chat template{_template_words(objective, base)}", base.chat_template_digest),
    ]
    if candidate.hosted is not None:
        model = []
    if not candidate.speaks:
        tuned = "tuned from" if candidate.tuned else "within it:"
        model = [(f"encoder {tuned} {encoder.name}, licence {encoder.license}", encoder.digest)] if encoder else []
    rows = [
        ("objective", digest_of(objective)),
        ("data snapshot", digest_of(manifest)),
        *model,
        *_looked_up(candidate),
        ("candidate", digest_of(candidate)),
        ("seed", str(candidate.seed)),
    ]
    return f"## Provenance\n\n{markdown_table(('what', 'digest'), rows)}"


def _template_words(objective: Objective, base: BaseModelRef) -> str:
    """The name of a chat template that is not the base model's own, and why it stands there."""
    if not base.chat_template:
        return ""
    why = "as the objective asks" if objective.chat_template else "the base model has none"
    return f" ({markdown_text(_file(base.chat_template))}: {why})"


def _looked_up(candidate: Candidate) -> list[tuple[str, str]]:
    """The index of what is looked up, and the release that lent the encoder which finds it."""
    retrieval = candidate.retrieval
    if retrieval is None:
        return []
    lent = [("passages found by the encoder of release", retrieval.release)] if retrieval.release else []
    return [("index", retrieval.index), *lent]


def in_order(evidence: Evidence, objective: Objective) -> list[Metric]:
    """Metrics as a reader looks for them: the KPIs first, as the objective lists them, then the rest by name."""
    first = [kpi.metric for kpi in objective.kpis if kpi.metric in evidence.metrics]
    return [evidence.metrics[name] for name in (*first, *sorted(set(evidence.metrics) - set(first)))]


def _climb_row(climb: Climb, metric: str, chosen: str | None) -> tuple[str, ...]:
    found = climb.evidence.metrics.get(metric)
    measured = f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]" if found else "not measured"
    mark = " (chosen)" if climb.candidate == chosen else ""
    return (
        f"{climb.rung.value} {climb.variant}{mark}",
        f"{climb.trained_parameters:,}",
        measured,
        _difference(climb.against_below),
        climb.gate.verdict.value,
        climb.reason,
    )


def _difference(found: Comparison | None) -> str:
    return "" if found is None else difference_words(found)


def _finding_row(finding: Finding) -> tuple[str, ...]:
    measured = "not measured"
    if finding.value is not None and finding.low is not None and finding.high is not None:
        measured = f"{finding.value:.4g} [{finding.low:.4g}, {finding.high:.4g}]"
    return finding.name, f"{finding.bound:g}", measured, finding.verdict.value, finding.reason


def _file(path: str) -> str:
    """A file's name without the folders it lies in, which are nobody's business; addresses stay whole."""
    return path if "://" in path else path.replace("\\", "/").rstrip("/").rpartition("/")[2]


_HUB = "hf://"
_PIPELINES = {TaskKind.CLASSIFY: "text-classification", TaskKind.GENERATE: "text-generation", TaskKind.RANK: "text-ranking"}


@dataclass(frozen=True)
class CardFacts:
    """Facts for a card. ``gate`` and ``test_evidence`` are those of the sealed test, ``rule`` says who must approve, ``encoder`` is what a
    linear model reads or was tuned from, ``approval_remarks`` what keeps approvals from proving that several people agreed,
    ``allowances`` are those of rungs that needed leave."""

    objective: Objective
    manifest: SnapshotManifest
    base: BaseModelRef
    candidate: Candidate
    ladder: Ladder
    test_evidence: Evidence
    gate: GateResult
    rule: ApprovalRule
    encoder: CardEncoder | None = None
    approval_remarks: tuple[str, ...] = ()
    allowances: tuple[Allowance, ...] = ()


def model_card(content_facts: CardFacts) -> str:
    """The card as Markdown with YAML front matter."""
    facts = content_facts
    body = (
        title(facts.objective, facts.candidate, facts.base),
        intended_use(facts.objective, facts.manifest, facts.candidate),
        training_data(facts.objective, facts.manifest, facts.candidate),
        how_chosen(facts.ladder, facts.objective, facts.allowances),
        evaluation(facts.objective, facts.test_evidence, facts.gate),
        limits(facts.objective, facts.gate, facts.test_evidence.scope),
        not_known(facts.objective, facts.candidate, facts.test_evidence),
        approvals(facts.objective, facts.rule, facts.approval_remarks),
        taking_back(facts.objective),
        provenance(facts.objective, facts.manifest, facts.base, facts.candidate, facts.encoder),
    )
    front = yaml.safe_dump(_front_matter(facts), sort_keys=False, allow_unicode=True, width=120)
    return f"---\n{front}---\n\n" + "\n\n".join(body) + "\n"


def _front_matter(facts: CardFacts) -> dict[str, Any]:
    objective, candidate = facts.objective, facts.candidate
    relation = "adapter" if candidate.adapter or candidate.encoder else "finetune" if candidate.weights or candidate.tuned else None
    front: dict[str, Any] = {}
    if candidate.hosted is not None:
        front = {}
    elif candidate.speaks:
        front = {"base_model": facts.base.name.removeprefix(_HUB).partition("@")[0]}
    elif facts.encoder:
        front = {"base_model": facts.encoder.name}
    if relation:
        front["base_model_relation"] = relation
    front |= {
        **_license(_terms(facts)),
        "library_name": "peft" if candidate.adapter else "transformers" if candidate.speaks and not candidate.hosted else "tailorbird",
        "pipeline_tag": _PIPELINES[objective.task.kind],
        "tags": ["tailorbird", objective.task.kind.value, candidate.rung.value, f"risk-{objective.business.risk.value}"],
        "datasets": _datasets(objective),
        "model-index": [_index_entry(facts)],
    }
    return front


def _terms(facts: CardFacts) -> str:
    """The licence of what the release was made from, beside the data: the base model; the encoder that a linear model holds."""
    if facts.candidate.hosted is not None:
        return "terms of the hosted model"
    if facts.candidate.speaks:
        return facts.base.license
    return facts.encoder.license if facts.encoder else ""


def _license(name: str) -> dict[str, str]:
    """The Hub spells licences in lower case, as one word; what it has no word for is ``other`` with its name."""
    word = name.lower()
    return {"license": word} if word and " " not in word else {"license": "other", "license_name": name or "unknown"}


def _datasets(objective: Objective) -> list[str]:
    """Ids of the data sets that lie on the Hub; otherwise the name this data goes by here."""
    on_hub = [source.path.removeprefix(_HUB).partition("@")[0] for source in objective.data if source.path.startswith(_HUB)]
    return on_hub or [f"{objective.tenant}/{objective.name}"]


def _index_entry(facts: CardFacts) -> dict[str, Any]:
    evidence, objective = facts.test_evidence, facts.objective
    name = f"{objective.tenant}/{objective.name}"
    result = {
        "task": {"type": _PIPELINES[objective.task.kind]},
        "dataset": {"type": name, "name": name, "split": evidence.split.value, "revision": digest_of(facts.manifest)},
        "metrics": [_index_metric(metric) for metric in in_order(evidence, objective)],
    }
    return {"name": name, "results": [result]}


def _index_metric(metric: Metric) -> dict[str, Any]:
    interval = {"low": round(metric.low, 6), "high": round(metric.high, 6), "confidence": metric.confidence, "method": metric.method}
    return {"type": metric.name, "name": metric.name, "value": round(metric.value, 6), "args": interval | {"n": metric.n}}
