"""The model card of a release, in the form of the Hugging Face Hub: YAML front matter, then Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.domain.evidence import Evidence, GateResult, Metric
from tailorbird.domain.ladder import Candidate, Ladder, RungKind
from tailorbird.domain.objective import Objective, TaskKind
from tailorbird.domain.plan import PlannedFloor
from tailorbird.domain.release import ApprovalRule
from tailorbird.release import model_card_sections as sections

_HUB = "hf://"
_PIPELINES = {TaskKind.CLASSIFY: "text-classification", TaskKind.GENERATE: "text-generation", TaskKind.RANK: "text-ranking"}


@dataclass(frozen=True)
class CardFacts:
    """What a card is written from. ``gate`` and ``test_evidence`` are those of the sealed test, ``rule`` says who must approve, ``floor``
    what a classical reference reads."""

    objective: Objective
    manifest: SnapshotManifest
    base: BaseModelRef
    candidate: Candidate
    ladder: Ladder
    test_evidence: Evidence
    gate: GateResult
    rule: ApprovalRule
    floor: PlannedFloor | None = None


def model_card(content_facts: CardFacts) -> str:
    """The card as Markdown with YAML front matter."""
    facts = content_facts
    body = (
        sections.title(facts.objective, facts.candidate, facts.base),
        sections.intended_use(facts.objective, facts.manifest),
        sections.training_data(facts.objective, facts.manifest, facts.candidate),
        sections.how_chosen(facts.ladder, facts.objective),
        sections.evaluation(facts.objective, facts.test_evidence, facts.gate),
        sections.limits(facts.objective, facts.gate),
        sections.not_known(facts.objective, facts.candidate, facts.test_evidence),
        sections.approvals(facts.objective, facts.rule),
        sections.taking_back(facts.objective),
        sections.provenance(facts.objective, facts.manifest, facts.base, facts.candidate, facts.floor),
    )
    front = yaml.safe_dump(_front_matter(facts), sort_keys=False, allow_unicode=True, width=120)
    return f"---\n{front}---\n\n" + "\n\n".join(body) + "\n"


def _front_matter(facts: CardFacts) -> dict[str, Any]:
    objective, candidate = facts.objective, facts.candidate
    relation = "adapter" if candidate.adapter else "finetune" if candidate.weights else None
    front: dict[str, Any] = {}
    if candidate.rung is not RungKind.FLOOR:
        front = {"base_model": facts.base.name.removeprefix(_HUB).partition("@")[0]}
    elif facts.floor and facts.floor.encoder:
        front = {"base_model": facts.floor.name}
    if relation:
        front["base_model_relation"] = relation
    front |= {
        **_license(_terms(facts)),
        "library_name": "peft" if candidate.adapter else "tailorbird" if candidate.rung is RungKind.FLOOR else "transformers",
        "pipeline_tag": _PIPELINES[objective.task.kind],
        "tags": ["tailorbird", objective.task.kind.value, candidate.rung.value, f"risk-{objective.business.risk.value}"],
        "datasets": _datasets(objective),
        "model-index": [_index_entry(facts)],
    }
    return front


def _terms(facts: CardFacts) -> str:
    """The licence of what the release was made from, beside the data: the base model; the encoder that a floor holds."""
    if facts.candidate.rung is not RungKind.FLOOR:
        return facts.base.license
    return facts.floor.license if facts.floor else ""


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
        "metrics": [_index_metric(metric) for metric in sections.in_order(evidence, objective)],
    }
    return {"name": name, "results": [result]}


def _index_metric(metric: Metric) -> dict[str, Any]:
    interval = {"low": round(metric.low, 6), "high": round(metric.high, 6), "confidence": metric.confidence, "method": metric.method}
    return {"type": metric.name, "name": metric.name, "value": round(metric.value, 6), "args": interval | {"n": metric.n}}
