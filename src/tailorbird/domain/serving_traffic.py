"""Traffic that an engine's replicas shall answer, as ``traffic.yaml`` tells it."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from tailorbird.domain.capacity import EngineTimings
from tailorbird.domain.value import Name, Section

Share = Annotated[float, Field(gt=0, le=1e6)]


class AdapterFleet(Section):
    """The adapters that are registered, all on one base model."""

    count: Annotated[int, Field(ge=1, le=100_000)]
    """Number of adapters."""
    ranks: Annotated[tuple[Annotated[int, Field(ge=1, le=1024)], ...], Field(min_length=1, max_length=64)] = (16,)
    """Their ranks, dealt out in turn."""


class Popularity(Section):
    """Who is asked how often."""

    zipf: Annotated[float, Field(ge=0, le=4)] = 1.0
    """The k-th adapter (of each tenant) is asked 1 / k^zipf times as often as the first; 0: all alike."""
    tenants: dict[Name, Share] = Field(default={}, max_length=10_000)
    """Share of the requests of each tenant; adapters are dealt out to tenants in turn. Empty: one tenant."""


class Arrivals(Section):
    """When requests come."""

    per_second: Annotated[float, Field(gt=0, le=2000)]
    """Requests a second, on average."""
    burst: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Requests that come at one moment: 1 is a Poisson process, more are bursts that come as one."""


class TokenCounts(Section):
    """Numbers of tokens: log-normal with a mean and a spread, cut at ``most``; or drawn from ``values``."""

    mean: Annotated[float, Field(ge=1, le=1_000_000)] | None = None
    """The mean, before the cut."""
    spread: Annotated[float, Field(ge=0, le=3)] = 0.0
    """Standard deviation of the logarithm; 0: all alike."""
    most: Annotated[int, Field(ge=1, le=1_000_000)] = 4096
    """The largest number."""
    values: Annotated[tuple[Annotated[int, Field(ge=1, le=1_000_000)], ...], Field(max_length=10_000)] = ()
    """Numbers that were seen, each as likely, in place of mean and spread."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.mean is None) == (not self.values):
            raise ValueError("needs either mean or values")
        return self


class PromptCounts(TokenCounts):
    """Tokens of prompts, instruction and template included."""

    shared: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Tokens with which all prompts of an adapter begin: found in the prefix cache after the first."""


class EngineBudget(Section):
    """What each replica has."""

    memory_mb: Annotated[int, Field(ge=1, le=1_000_000_000)] = 4096
    """Megabytes (2^20 bytes) for weights: the setting ``engine_memory_mb``."""
    kv_mb: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1024
    """Megabytes for keys and values: the setting ``engine_kv_mb``."""
    precision: Literal["auto", "bf16", "fp32", "int8"] = "auto"
    """The setting ``engine_precision``, for which timings are kept apart."""
    adapters: Literal["auto", "int4"] = "auto"
    """The setting ``engine_adapters``, as well."""
    routing: Literal["spread", "adapter"] = "spread"
    """How requests are dealt to replicas: in turn, or each adapter's to one of them."""


class CapacityTarget(Section):
    """What the number of replicas is found for."""

    p95_ms: Annotated[float, Field(gt=0)]
    """95 of 100 requests are answered whole within so many milliseconds."""


class MeasuredGateway(Section):
    """A gateway whose engine is timed before the plan, where that is asked for."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s]+$", max_length=500)]
    """Its address, with no user, password, query or fragment: plans name its host."""
    key_file: Annotated[str, Field(min_length=1, max_length=1000)]
    """A file with an API key of scope ``answer``."""
    names: Annotated[str, Field(min_length=1, max_length=200)] = "*"
    """Which of its names have an adapter and answer in text: a pattern with ``*``."""

    @field_validator("url")
    @classmethod
    def _bare(cls, url: str) -> str:
        if any(sign in url for sign in "@?#\\") or not urlsplit(url).hostname:
            raise ValueError("must be an address with no user, password, query or fragment in it")
        return url


class ServingTraffic(Section):
    """Adapters, traffic and machines of a serving plan."""

    base_model: Annotated[str, Field(min_length=1, max_length=200)]
    """The base model, as timings are kept for it."""
    adapters: AdapterFleet
    """The adapters."""
    popularity: Popularity = Popularity()
    """Who is asked how often."""
    arrivals: Arrivals
    """When requests come."""
    prompt: PromptCounts
    """Tokens of prompts."""
    answer: TokenCounts
    """Tokens of answers."""
    engine: EngineBudget = EngineBudget()
    """What each replica has."""
    replicas: Annotated[int, Field(ge=1, le=200)] | None = None
    """Number of replicas, each on a machine of its own."""
    target: CapacityTarget | None = None
    """In place of ``replicas``: the fewest that hold this are found."""
    price_per_hour: Annotated[float, Field(ge=0, le=1e6)] | None = None
    """Price of a machine's hour. Default: the settings' price of this machine."""
    gateway: MeasuredGateway | None = None
    """The gateway that ``--measure`` times."""
    timings: EngineTimings | None = None
    """Timings of the engine, in place of those that were measured here."""

    @model_validator(mode="after")
    def _replicas_or_target(self) -> Self:
        if (self.replicas is None) == (self.target is None):
            raise ValueError("needs either replicas or target")
        return self
