"""Rules on ``grounding``: what a release can be named by, and the tasks, documents and rungs that it needs."""

from __future__ import annotations

from tailorbird.domain.ladder import RungKind
from tailorbird.domain.objective import TaskKind
from tailorbird.domain.retrieval import ReleaseName
from tailorbird.objective.objective_file import Fault, ObjectiveFile

#: Rungs that quote passages.
_GROUNDED = (RungKind.GROUNDING, RungKind.GROUNDED_LORA)


def grounding_faults(file: ObjectiveFile) -> list[Fault]:
    """Everything under ``grounding`` that nothing could come of."""
    objective, wishes = file.objective, file.objective.grounding
    line = file.line_of("grounding")
    if wishes.encoder is None and not wishes.rewrite:
        return []
    if objective.task.kind is TaskKind.RANK:
        what = "a task of kind rank quotes no passages: it is what `grounding` of another objective may name"
        return [Fault(line, what, "remove `grounding`")]
    faults = []
    if not objective.documents:
        faults.append(Fault(line, "`grounding` finds passages of documents, and none are named", "add `documents:`, or remove `grounding`"))
    if objective.ladder != "auto" and not set(_GROUNDED) & set(objective.ladder):
        what = "`grounding` says how passages are found, and no rung of the ladder quotes any"
        faults.append(Fault(line, what, "add grounding to the ladder, or remove the section"))
    if wishes.rewrite:
        faults += _rewrite_faults(file)
    if wishes.encoder is not None:
        faults += _encoder_faults(file, wishes.encoder)
    return faults


def _rewrite_faults(file: ObjectiveFile) -> list[Fault]:
    objective, line = file.objective, file.line_of("grounding.rewrite")
    if objective.task.kind is not TaskKind.GENERATE:
        what = f"a task of kind {objective.task.kind.value} has no conversations whose last message could be rewritten"
        return [Fault(line, what, "remove `rewrite`, or use kind: generate")]
    if objective.ladder != "auto" and RungKind.GROUNDING not in objective.ladder:
        what = "`rewrite` is a variant of the rung grounding, and the ladder does not list it"
        return [Fault(line, what, "add grounding to the ladder, or remove `rewrite`")]
    return []


def _encoder_faults(file: ObjectiveFile, name: str) -> list[Fault]:
    line, named = file.line_of("grounding.encoder"), ReleaseName.of(name)
    if named is None:
        hint = "write the alias of a release (acme/search), or its digest (sha256:..., or 12 digits of it or more)"
        return [Fault(line, "`grounding.encoder` is neither an alias nor the digest of a release", hint)]
    tenant = file.objective.tenant
    if named.tenant not in ("", tenant):
        what = f"`grounding.encoder` is a release of the tenant {named.tenant}, and the objective belongs to {tenant}"
        return [Fault(line, what, f"name a release of {tenant}: nothing of one tenant is used by another", "other_tenant")]
    if named.name == file.objective.name:
        what = "`grounding.encoder` is the alias of this very objective"
        return [Fault(line, what, "name the alias of an objective of kind rank")]
    return []
