"""Number formats that an engine can hold a model in, and what each was measured to lose."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from tailorbird.domain.evidence import Comparison, Metric
from tailorbird.domain.value import Digest, Name, Value


class NumberFormat(Value):
    """The settings ``engine_precision`` and ``engine_adapters``: what an engine holds weights and adapters in. ``auto`` is decided by the
    machine."""

    precision: Literal["auto", "bf16", "fp32", "int8"] = "auto"
    adapters: Literal["auto", "int4"] = "auto"

    @property
    def text(self) -> str:
        """As the settings say it."""
        adapters = f", engine_adapters: {self.adapters}" if self.adapters != "auto" else ""
        return f"engine_precision: {self.precision}{adapters}"


class FormatReading(Value):
    """What an engine in one format did with the rows of a measurement.

    ``fingerprint`` names engine and format. ``score`` is the metric in which the objective compares, ``difference`` its paired difference
    from the format that the settings name (None for that one), ``differ`` the number of rows that got another answer. ``alone_ms`` is the
    median time of a request that is alone, ``per_second`` the rows answered in a second many at a time; ``weights_mb`` are MiB of weights
    in the engine's memory. ``refused`` says why the engine does not compute in it here: then nothing else is set.
    """

    format: NumberFormat
    fingerprint: str = ""
    score: Metric | None = None
    difference: Comparison | None = None
    differ: int = 0
    alone_ms: float = 0.0
    per_second: float = 0.0
    weights_mb: float = 0.0
    refused: str = ""


class FormatMeasurement(Value):
    """A candidate on base model ``base`` (tree), in each format that the engine of a machine computes in; ``readings`` begin with the
    format that the settings name.

    ``label`` names candidate and base. The same ``rows`` of dev of a ``snapshot`` of ``objective`` were answered in each.
    ``loaded``: other processes wanted the cores meanwhile, so that times say little.
    """

    objective: Name
    machine: str
    base: Digest
    snapshot: Digest
    candidate: Digest
    label: str
    rows: int
    at: datetime
    readings: tuple[FormatReading, ...]
    loaded: bool = Field(default=False, exclude_if=lambda value: not value)
