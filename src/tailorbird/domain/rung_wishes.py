"""Wishes of an objective on its rungs, where the planner shall not decide: floor, encoder, adapters, all weights, grounding, hosted model,
prompt search."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from tailorbird.domain.base_model import EncoderPrefixes
from tailorbird.domain.value import Name, Section


class FloorWishes(Section):
    """Whether the floor, a classical model, may be released, and what it reads. ``floor: reference`` is short for its role alone."""

    role: Literal["rung", "reference"] = "rung"
    """``rung``: the lowest rung of ``ladder: auto``, or of a list that names it; it is released when it passes. ``reference``: it is
    measured, and never released."""
    vectors: bool | Literal["auto"] = "auto"
    """Reads each text's vector of the encoder that is installed too, beside its words: better where rows are few, at some milliseconds a
    text on a core. ``auto``: where an encoder is installed, up to 20,000 training rows."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        return {"role": given} if given == "reference" else given


class EncoderWishes(Section):
    """Which encoder gives texts their vectors, what it reads in front of them, and what of it is tuned for labels (rung ``encoder``)."""

    model: str = Field(default="auto", min_length=1, max_length=500)
    """The encoder of the floor, of nearest examples, of grounding and of the rung ``encoder``, as a base model is named: of the catalogue,
    a local folder, or hf://OWNER/NAME. ``auto``: the catalogue's encoder that is installed. A task of kind rank names it as
    ``base_model``."""
    prefixes: Literal["own", "none", "e5", "bge", "nomic"] | EncoderPrefixes = "own"
    """What it reads in front of a ``query``, a ``passage``, or a ``text`` by itself. ``own``: what its files name, or the catalogue.
    ``e5``, ``bge``, ``nomic``: as encoders of these families were trained; ``none``: nothing."""
    method: Literal["full", "lora"] = "full"
    """``full``: its weights, and the release holds an encoder of its own. ``lora``: an adapter; releases of all tenants share the encoder
    that they were tuned from, in memory once, and their requests are read together."""
    rank: Annotated[int, Field(ge=1, le=64)] | Literal["auto"] = "auto"
    """The rank of the adapter; ``auto`` is 16."""

    @property
    def other_prefixes(self) -> EncoderPrefixes | None:
        """The prefixes that are asked for; None: the encoder's own."""
        return KNOWN_PREFIXES.get(self.prefixes) if isinstance(self.prefixes, str) else self.prefixes


#: What encoders of a family were trained to read in front of texts, as their authors say.
KNOWN_PREFIXES = {
    "none": EncoderPrefixes(),
    "e5": EncoderPrefixes(query="query: ", passage="passage: ", text="query: "),
    "bge": EncoderPrefixes(query="Represent this sentence for searching relevant passages: "),
    "nomic": EncoderPrefixes(query="search_query: ", passage="search_document: ", text="classification: "),
}


class TrainingWishes(Section):
    """How long and how fast a rung shall learn, where the planner shall not decide."""

    epochs: Annotated[int, Field(ge=1, le=100)] | Literal["auto"] = "auto"
    """Passes over the training rows; ``auto`` goes by how many there are. The checkpoint with the best held-out loss is kept."""
    learning_rate: Annotated[float, Field(gt=0, lt=1)] | Literal["auto"] = "auto"
    """The highest learning rate, reached after the warm-up; ``auto`` goes by the method and the width of the model."""


class AdapterWishes(TrainingWishes):
    """How adapters (``lora``, ``qlora``) shall be made, where the planner shall not decide."""

    rank: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """The rank; ``auto`` gives as many weights as there are answer tokens to learn."""
    alpha: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """What the adapter is scaled by, with the rank; ``auto`` is 32."""
    targets: tuple[str, ...] | Literal["auto"] = "auto"
    """The linear layers that are adapted, by name; ``auto`` is all of them."""
    rslora: bool = False
    """Scales by alpha / √rank instead of alpha / rank."""
    b_rate: Annotated[float, Field(gt=0, le=100)] = 1.0
    """How many times faster the second matrix learns than the first (LoRA+)."""


class GroundingWishes(Section):
    """What finds the passages that ``grounding`` quotes, where it is not to be words and the installed encoder."""

    encoder: str | None = Field(default=None, min_length=1, max_length=200)
    """An approved release of kind ``rank`` that finds them, with what it tuned: its alias (``acme/search``) or its digest. An alias stands
    for the release that answers when the objective is submitted and planned; the plan and the release name it by digest."""
    rewrite: bool = False
    """Tries one more variant, in which the base model rewrites a conversation's last message as a question that stands alone before
    passages are looked up (kind: generate)."""


class EndpointWishes(Section):
    """A model at an endpoint. What is sent there leaves the house: the endpoint is an admin's to register, and each source must name it
    among its ``processors``."""

    endpoint: Name
    """The endpoint, as an admin has registered it for the tenant: ``tailorbird endpoint list``."""
    model: str = Field(min_length=1, max_length=200)
    """The model, as the endpoint's server names it."""
    reported: str | None = Field(default=None, max_length=200)
    """The name under which the server answers, where that is neither ``model`` nor a version of it."""


#: How a hosted model is asked.
HostedVariant = Literal["zero-shot", "few-shot", "searched", "grounded"]


class HostedWishes(EndpointWishes):
    """A hosted model that is measured on the same items as everything else (rung ``hosted``). Its data leave the house: the endpoint is an
    admin's to register, and each source must name it among its ``processors``."""

    variants: Annotated[tuple[HostedVariant, ...], Field(min_length=1)] | Literal["auto"] = "auto"
    """How it is asked: ``zero-shot``, ``few-shot``, ``searched`` (behind a prompt that is searched with it), ``grounded`` (with passages of
    the objective's documents, which leave the house too). ``auto``: the first two, ``searched`` where the ladder lists ``prompt-search``,
    and ``grounded`` where it tries ``grounding``."""


class ProposerWishes(EndpointWishes):
    """A hosted model that writes instructions for a prompt's search, in place of the base model. A few training rows with their answers,
    and answers that were wrong, are sent to it; it answers no row."""


class PromptSearchWishes(Section):
    """How long a prompt is searched (rung ``prompt-search``, and a hosted model's variant ``searched``), and who writes instructions for
    it."""

    calls: Annotated[int, Field(ge=50, le=100_000)] | Literal["auto"] = "auto"
    """Calls of the model that answers, or of the proposer, that a search may make, each the answer to one held-out training row or one
    proposal; ``auto`` is 800."""
    proposer: ProposerWishes | None = None
    """A hosted model that writes instructions; without it the model that answers does."""


class SplitPolicy(Section):
    """Which rows stand for a world that has moved on: none of them is learned from, a part of dev and of test is made of them, and limits
    named ``shift`` are measured on them. What belongs to it is decided when the objective's first snapshot is made, and stays."""

    by: str = Field(min_length=1)
    """The column that every source has: when a row was written (a date, a time, a year), or whose it is (a source, a customer, a site)."""
    kind: Literal["auto", "time", "value"] = "auto"
    """``time``: the newest rows are the shifted part; ``value``: all rows of some values are. ``auto``: ``time`` where nine of ten cells
    are dates, times or years."""
    share: Annotated[float, Field(gt=0, le=0.5)] = 0.2
    """About what share of the rows the shifted part gets, where neither ``since`` nor ``values`` says what it is."""
    since: str | date | None = None
    """Rows of this time and later are the shifted part."""
    values: tuple[str, ...] = ()
    """Rows with one of these values are the shifted part."""


def year(given: Any) -> Any:
    """A year is written without quotes as often as with them."""
    return str(given) if isinstance(given, int) and not isinstance(given, bool) and 1000 <= given <= 9999 else given


def or_year(schema: dict[str, Any]) -> None:
    """A year is a whole number to editors."""
    schema["anyOf"] = [*schema["anyOf"], {"type": "integer", "minimum": 1000, "maximum": 9999}]


def switch(given: Any) -> Any:
    """``on`` and ``off`` in quotes, as ``on`` and ``off`` without, which YAML 1.1 reads as true and false."""
    return given == "on" if given in ("on", "off") else given


def or_switch(schema: dict[str, Any]) -> None:
    """``on`` and ``off`` are texts to editors that read YAML 1.2."""
    schema["anyOf"] = [{"type": schema.pop("type")}, {"enum": ["on", "off"]}]


def label(given: Any) -> Any:
    """A label that is a whole number, as the text that stands in the data."""
    return str(given) if isinstance(given, int) and not isinstance(given, bool) else given


def or_number(schema: dict[str, Any]) -> None:
    """Labels may be written as whole numbers."""
    schema["items"] = {"anyOf": [schema["items"], {"type": "integer"}]}
