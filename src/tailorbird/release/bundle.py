"""Release bundle: everything that an answer depends on, by digest; and the model card, in the form of the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.evidence import Evidence, GateResult, Metric, ScopeRule
from tailorbird.domain.ladder import Allowance, Candidate, Ladder, RungKind
from tailorbird.domain.objective import Objective, TaskKind
from tailorbird.domain.release import ApprovalRule, ReleaseContent
from tailorbird.domain.run import Run
from tailorbird.domain.value import Digest
from tailorbird.release.approvals import rule_for
from tailorbird.reporting.documents import gate_markdown
from tailorbird.reporting.ladder import ladder_markdown
from tailorbird.reporting.markdown import markdown_table, markdown_text


@dataclass(frozen=True)
class ReleaseParts:
    """Parts of a release. Its author is who submitted the run. Answers below the probability ``refer_below`` go to people,
    and so do requests that ``scope`` refuses."""

    run: Run
    objective: Objective
    base: BaseModelRef
    candidate: Candidate
    snapshot: Digest
    refer_below: float | None = None
    scope: ScopeRule | None = None


def assemble(parts: ReleaseParts) -> ReleaseContent:
    """The content of the release.

    Raises InvalidInput when the parts do not belong together, or when the candidate is a floor that was only measured.
    """
    objective, base, candidate = parts.objective, parts.base, parts.candidate
    problems = {
        "the floor was measured for reference and not stored: remove `floor: reference` from the objective, and adapt again": (
            candidate.rung is RungKind.FLOOR and candidate.floor is None
        ),
        "the candidate was made from another base model": candidate.base_model != base.digest,
        "the run pursued another objective": parts.run.objective != digest_of(objective),
        "the run belongs to another tenant": parts.run.tenant != objective.tenant,
    }
    for what, is_so in problems.items():
        if is_so:
            raise InvalidInput(what, "release the candidate that the run's ladder chose")
    return ReleaseContent(
        tenant=objective.tenant,
        objective_name=objective.name,
        objective=digest_of(objective),
        run=parts.run.id,
        risk=objective.business.risk,
        task=objective.task.kind,
        rung=candidate.rung,
        candidate=digest_of(candidate),
        base_model_name=candidate.hosted.model if candidate.hosted else base.name,
        base_model=base.digest,
        adapter=candidate.adapter,
        weights=candidate.weights,
        tokenizer=base.tokenizer_digest,
        chat_template=base.chat_template_digest,
        prompt=candidate.prompt,
        retrieval=candidate.retrieval,
        floor=candidate.floor,
        hosted=candidate.hosted,
        snapshot=parts.snapshot,
        author=parts.run.created_by,
        refer_below=parts.refer_below,
        refer_pattern=objective.referral.pattern if objective.referral else None,
        scope=parts.scope,
        encoder=candidate.encoder,
    )


def release_digest(content: ReleaseContent) -> Digest:
    """Digest of a release's content in canonical JSON, which is its name. Nothing measured is in it: the same inputs give the same name."""
    return digest_of(content)


@dataclass(frozen=True)
class CardEncoder:
    """The encoder that a linear model reads, or that it was tuned from: its files (tree) and terms."""

    name: str
    license: str
    digest: Digest


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


def model_card(facts: CardFacts) -> str:
    """The card as Markdown with YAML front matter."""
    objective, evidence, candidate, base, encoder = facts.objective, facts.test_evidence, facts.candidate, facts.base, facts.encoder
    business, task, labels = objective.business, objective.task, facts.manifest.labels
    use = [("goal", business.goal), ("answers for it", business.owner), ("risk tier", business.risk.value), ("task", task.kind.value)]
    use += [("instruction", task.instruction)] + ([(f"labels ({len(labels)})", ", ".join(labels))] if labels else [])
    use += [("reasoning", "before each answer, and left out of it")] if task.thinking else []
    first = [kpi.metric for kpi in objective.kpis if kpi.metric in evidence.metrics]
    metrics = [evidence.metrics[name] for name in (*first, *sorted(set(evidence.metrics) - set(first)))]
    shifted = [evidence.shifted_metrics[kpi.metric] for kpi in objective.kpis if kpi.metric in evidence.shifted_metrics]
    measured = [(m.name, m) for m in metrics] + [(f"{m.name} on the shifted part", m) for m in shifted]
    provenance = [("objective", digest_of(objective)), ("data snapshot", digest_of(facts.manifest))]
    if candidate.speaks and candidate.hosted is None:
        given = f" ({markdown_text(_file(base.chat_template))})" if base.chat_template else ""
        provenance += [("base model", base.digest), ("tokenizer", base.tokenizer_digest)]
        provenance += [(f"chat template{given}", base.chat_template_digest)]
    elif not candidate.speaks and encoder:
        tuned = "tuned from" if candidate.tuned else "within it:"
        provenance += [(f"encoder {tuned} {encoder.name}, licence {encoder.license}", encoder.digest)]
    if candidate.retrieval is not None:
        lent = candidate.retrieval.release
        provenance += [("index", candidate.retrieval.index)]
        provenance += [("passages found by the encoder of release", lent)] if lent else []
    provenance += [("candidate", digest_of(candidate)), ("seed", str(candidate.seed))]
    environment = Environment(loader=PackageLoader("tailorbird.release"), undefined=StrictUndefined, keep_trailing_newline=True)
    environment.globals |= {"table": markdown_table, "markdown_text": markdown_text}
    environment.filters |= {"text": markdown_text, "count": "{:,}".format}
    return environment.get_template("model_card.md").render(
        **vars(facts),
        evidence=evidence,
        front=yaml.safe_dump(_front_matter(facts, metrics), sort_keys=False, allow_unicode=True, width=120),
        use=use,
        sources=[(_file(s.path), s.source.origin, s.source.license, str(s.source.collected), s.source.consent) for s in objective.data],
        labels=[(label, f"{c.train:,}", f"{c.dev:,}", f"{c.test:,}") for label, c in sorted(facts.manifest.label_counts.items())],
        ladder_table=ladder_markdown(facts.ladder, objective),
        gate_table=gate_markdown(facts.gate),
        interval=f"interval{next((f' ({m.confidence:.0%})' for m in evidence.metrics.values()), '')}",
        metrics=[(name, f"{m.value:.4g}", f"{m.low:.4g} to {m.high:.4g}", f"{m.n:,}", m.method) for name, m in measured],
        own=_approvers(rule_for(objective)),
        needed=_approvers(facts.rule),
        remarks=facts.approval_remarks,
        provenance=provenance,
    )


def _approvers(rule: ApprovalRule) -> str:
    people = "1 person" if rule.count == 1 else f"{rule.count} different people"
    distinct = f", in {rule.distinct_roles} different roles" if rule.distinct_roles > 1 else ""
    return f"{people} in the role {' or '.join(role.value for role in rule.roles)}{distinct}"


def _file(path: str) -> str:
    """A file's name without the folders it lies in, which are nobody's business; addresses stay whole."""
    return path if "://" in path else path.replace("\\", "/").rstrip("/").rpartition("/")[2]


def _front_matter(facts: CardFacts, metrics: Sequence[Metric]) -> dict[str, Any]:
    """What the Hub reads. It spells licences in lower case, as one word; what it has no word for is ``other`` with its name."""
    objective, candidate, kind = facts.objective, facts.candidate, facts.objective.task.kind
    if candidate.hosted is not None:
        made_from, terms = "", "terms of the hosted model"
    elif candidate.speaks:
        made_from, terms = facts.base.name.removeprefix(_HUB).partition("@")[0], facts.base.license
    else:
        made_from, terms = (facts.encoder.name, facts.encoder.license) if facts.encoder else ("", "")
    relation = "adapter" if candidate.adapter or candidate.encoder else "finetune" if candidate.weights or candidate.tuned else ""
    word, name = terms.lower(), f"{objective.tenant}/{objective.name}"
    on_hub = [source.path.removeprefix(_HUB).partition("@")[0] for source in objective.data if source.path.startswith(_HUB)]
    split = facts.test_evidence.split.value
    results = {
        "task": {"type": _PIPELINES[kind]},
        "dataset": {"type": name, "name": name, "split": split, "revision": digest_of(facts.manifest)},
        "metrics": [
            {
                "type": m.name,
                "name": m.name,
                "value": round(m.value, 6),
                "args": {"low": round(m.low, 6), "high": round(m.high, 6), "confidence": m.confidence, "method": m.method, "n": m.n},
            }
            for m in metrics
        ],
    }
    return {
        **({"base_model": made_from} if made_from else {}),
        **({"base_model_relation": relation} if relation else {}),
        **({"license": word} if word and " " not in word else {"license": "other", "license_name": terms or "unknown"}),
        "library_name": "peft" if candidate.adapter else "transformers" if candidate.speaks and not candidate.hosted else "tailorbird",
        "pipeline_tag": _PIPELINES[kind],
        "tags": ["tailorbird", kind.value, candidate.rung.value, f"risk-{objective.business.risk.value}"],
        "datasets": on_hub or [name],
        "model-index": [{"name": name, "results": [results]}],
    }
