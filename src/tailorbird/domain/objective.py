"""What "better" means: the objective a team writes down before anything is spent.

In: the values read from ``objective.yaml``. Out: a frozen objective. Must not know: YAML, files, line numbers (``objective/``).
"""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from tailorbird.domain.ladder import RungKind
from tailorbird.domain.value import Name, Value


class RiskTier(StrEnum):
    """How much proof and how many people a release needs."""

    MINIMAL = "minimal"
    LIMITED = "limited"
    HIGH = "high"

    @property
    def confidence(self) -> float:
        """Two-sided confidence of the gate's intervals."""
        return {RiskTier.MINIMAL: 0.80, RiskTier.LIMITED: 0.90, RiskTier.HIGH: 0.95}[self]


class TaskKind(StrEnum):
    """What the model is asked to do."""

    CLASSIFY = "classify"
    GENERATE = "generate"
    RANK = "rank"


class Business(Value):
    """Why the objective exists and who answers for it."""

    goal: str = Field(min_length=1)
    owner: str = Field(min_length=1)
    risk: RiskTier


class Task(Value):
    """The task put to the model."""

    kind: TaskKind
    labels: Literal["one", "many"] = "one"
    instruction: str = Field(min_length=1)


class Origin(Value):
    """Where rows come from and on what terms they may be used."""

    origin: str = Field(min_length=1)
    license: str = Field(min_length=1)
    collected: str | date = "unknown"
    consent: str = "unknown"


class DataSource(Value):
    """One file (or folder, or URL) of rows, and which of its columns mean what.

    ``label`` names the column of the label (classify) or of the answer (generate). ``split`` fixes every row of the source
    to one split, for data that came with an official test set. ``subject`` names a column with a pseudonymous person.
    """

    path: str = Field(min_length=1)
    text: str = "text"
    label: str = "label"
    subject: str | None = None
    split: Literal["train", "dev", "test"] | None = None
    source: Origin


class Kpi(Value):
    """A metric and the value it must be proven to reach. ``metric`` may name a label: ``recall[refund]``."""

    metric: str
    target: float
    because: str = ""


class MaxDrop(Value):
    """The largest tolerated loss against the base model, as a share."""

    max_drop: Annotated[float, Field(ge=0, le=1)]


class MaxExtractable(Value):
    """How many planted or private strings may be extracted from the candidate."""

    max_extractable: Annotated[int, Field(ge=0)]


class LatencyLimit(Value):
    """95th percentile of an answer's latency in milliseconds, at a stated concurrency."""

    at_concurrency: Annotated[int, Field(ge=1, le=1024)] = 1
    max: Annotated[float, Field(gt=0)]


class CostLimit(Value):
    """What 1,000 requests may cost."""

    max: Annotated[float, Field(ge=0)]
    currency: str = "EUR"


class Limits(Value):
    """Bounds on a candidate at the gate; each is optional."""

    retention: MaxDrop | None = None
    memorisation: MaxExtractable | None = None
    latency_p95_ms: LatencyLimit | None = None
    cost_per_1k_requests: CostLimit | None = None


class Budget(Value):
    """What adapting may cost in all: money, hours of this machine, GiB of memory."""

    money: Annotated[float, Field(ge=0)] = 5.0
    currency: str = "EUR"
    hours: Annotated[float, Field(gt=0)] = 1.0
    memory_gb: Annotated[float, Field(gt=0)] | Literal["auto"] = "auto"


class Objective(Value):
    """One job for a language model, and what "good enough" means for it."""

    name: Name
    tenant: Name
    business: Business
    task: Task
    data: Annotated[tuple[DataSource, ...], Field(min_length=1)]
    base_model: str = "smollm2-135m"
    kpis: Annotated[tuple[Kpi, ...], Field(min_length=1)]
    limits: Limits = Limits()
    margin: Annotated[float, Field(ge=0, le=0.5)] = 0.02
    budget: Budget = Budget()
    ladder: Literal["auto"] | tuple[RungKind, ...] = "auto"
    approvals: Literal["auto"] | tuple[str, ...] = "auto"
    seed: int = 20
