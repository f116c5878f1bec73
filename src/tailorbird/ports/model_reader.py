"""Turns what a package or folder holds into the one form tailorbird runs (safetensors, config, tokenizer, template), and that into GGUF."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

from tailorbird.domain.base_model import EncoderDescription, ModelShape
from tailorbird.domain.prompt import PromptSpec
from tailorbird.domain.value import Value

#: Types of weights in a GGUF file; ``held`` is the type that each tensor is held in, so that nothing is rounded.
GgufPrecision = Literal["held", "q8_0"]


class GgufJob(Value):
    """What to write to the new file ``target``: the model in the folder ``source``.

    ``facts`` are written as they are, by key of the metadata (``general.name``, ``general.license``). ``probes`` are texts that the model
    and the file, read back, are both asked behind ``prompt``.
    """

    source: Path
    target: Path
    precision: GgufPrecision = "held"
    facts: dict[str, str]
    prompt: PromptSpec
    probes: tuple[str, ...]


class GgufFile(Value):
    """A GGUF file: its architecture in llama.cpp's words, its tensors, its bytes, and how far the next-token distributions of the file, as
    transformers reads it, lie from those of the model (KL divergence in nats, over ``positions`` tokens)."""

    name: str
    architecture: str
    precision: GgufPrecision
    tensors: int
    size: int
    positions: int
    mean_kl: float
    max_kl: float


class ModelReader(Protocol):
    """Converts base models."""

    def convert(self, source: Path, target: Path, stated: EncoderDescription | None = None) -> None:
        """Reads a GGUF file or a Hugging Face folder at ``source``, a decoder or an encoder, and writes the model into the empty folder
        ``target``: a decoder with the plain chat template where it has none. ``stated`` is how an encoder makes its vectors where its files
        leave it open.

        Raises ModelInvalid (unreadable, a chat template that fails, pickled weights, remote code, neither decoder nor encoder,
        ``model_unsupported``).
        """
        ...

    def describe(self, source: Path) -> ModelShape:
        """The shape of the decoder in the folder ``source``, from its config, or of the one that the config or GGUF file
        ``source`` alone describes: nothing is loaded.

        Raises ModelInvalid: remote code (``model_unsafe``), a type that is unknown or no decoder, or quantised
        weights (``model_unsupported``), a config of which no model can be built
        (``model_config``).
        """
        ...

    def write_gguf(self, job: GgufJob) -> GgufFile:
        """Writes a model as a GGUF file that llama.cpp loads, and compares the two.

        Raises InvalidInput where llama.cpp cannot compute it as it was measured (``export_nothing``: architecture, positions,
        tokenizer), ModelInvalid and Corrupt.
        """
        ...
