"""Release bundle: everything that an answer depends on, by digest."""

from __future__ import annotations

from dataclasses import dataclass

from tailorbird.crypto.canonical_json import digest_of
from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.ladder import Candidate, RungKind
from tailorbird.domain.objective import Objective
from tailorbird.domain.release import ReleaseContent
from tailorbird.domain.run import Run
from tailorbird.domain.scope import ScopeRule
from tailorbird.domain.value import Digest


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
    _check(parts)
    objective, base, candidate = parts.objective, parts.base, parts.candidate
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


def _check(parts: ReleaseParts) -> None:
    problems = (
        (
            parts.candidate.rung is RungKind.FLOOR and parts.candidate.floor is None,
            "the floor was measured for reference and not stored: remove `floor: reference` from the objective, and adapt again",
        ),
        (parts.candidate.base_model != parts.base.digest, "the candidate was made from another base model"),
        (parts.run.objective != digest_of(parts.objective), "the run pursued another objective"),
        (parts.run.tenant != parts.objective.tenant, "the run belongs to another tenant"),
    )
    for is_so, what in problems:
        if is_so:
            raise InvalidInput(what, "release the candidate that the run's ladder chose", code="release_parts")
