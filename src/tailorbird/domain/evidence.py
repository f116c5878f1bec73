"""What was measured, and what it proves."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from tailorbird.domain.dataset import Split
from tailorbird.domain.value import Digest, Value


class Verdict(StrEnum):
    """Three values; ``INCONCLUSIVE`` never passes."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class ItemResult(Value):
    """One item's outcome. ``log_loss`` is in nats; ``latency_ms`` is this item's share of its batch. Holds no text of the item.

    ``request_ms`` is the wall time of the request, for items that were answered as a server would answer them; ``None`` for those batched.
    ``scores`` are the item's own values of the metrics that are means over items (``brier``, ``rouge_l``, ``ndcg@10``), by their names.
    """

    item: Digest
    group: str
    target: str
    prediction: str
    correct: bool
    log_loss: float | None = None
    confidence: float | None = None
    latency_ms: float = 0.0
    request_ms: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    scores: dict[str, float] = Field(default_factory=dict)


class Metric(Value):
    """A metric with its interval at ``confidence`` (two-sided). ``n`` counts the items it rests on, ``hits`` the successes of a proportion.

    ``method`` names how the interval was made (``wilson``, ``clopper-pearson``, ``bootstrap-bca``).
    """

    name: str
    value: float
    low: float
    high: float
    confidence: float
    n: int
    method: str
    hits: int | None = None


class Standing(StrEnum):
    """How a candidate stands to the one below it."""

    BETTER = "better"
    TIE = "tie"
    WORSE = "worse"
    NOT_PROVEN = "not_proven"


class Comparison(Value):
    """A paired difference on the same items: ``upper`` minus ``lower``, in the unit of ``metric``. ``wins`` are items on which ``upper``
    is the better one, ``losses`` those on which ``lower`` is; with ``less_is_better`` a negative difference is the better one.

    ``p_value`` is two-sided exact McNemar. ``items_needed`` estimates how many more items would settle a ``not_proven``; ``None`` when
    nothing is open, or no more than by how much it is worse. ``smallest_margin`` is the half width that the interval has where the two
    never differ: within less no tie can be proven. ``reason`` says why the two could not be compared; the interval is then all that is
    possible.
    """

    upper: Digest
    lower: Digest
    metric: str
    n: int
    difference: float
    low: float
    high: float
    confidence: float
    wins: int
    losses: int
    p_value: float
    margin: float
    standing: Standing
    items_needed: int | None = None
    less_is_better: bool = Field(default=False, exclude_if=lambda value: not value)
    smallest_margin: float | None = Field(default=None, exclude_if=lambda value: value is None)
    reason: str = Field(default="", exclude_if=lambda value: not value)

    @property
    def is_loss(self) -> bool:
        """True where the interval lies wholly on the side on which ``upper`` is the worse one: that it is not better is settled, even where
        it is open whether it is worse by more than the margin."""
        return not self.reason and (self.low > 0 if self.less_is_better else self.high < 0)


class Evidence(Value):
    """What one candidate did on one split. ``items`` names the JSONL artifact with every ``ItemResult``, ``breakdown`` the artifact with
    what lies behind the metrics (``domain/breakdown.py``).

    ``retention`` and ``memorisation`` name the artifacts of what training cost (``domain/forgetting.py``), where the objective limits it;
    ``unmeasured`` says why a limit was not measured. ``incumbent`` names the
    item results, on the same items, of ``incumbent_release``, which answered when this was measured. ``refer_below`` is the probability
    below which an answer counted as referred to a person: calibrated on dev, kept on test. ``shifted`` names the results of the items of
    the shifted part, and ``shifted_metrics`` what they come to; ``metrics`` are of the others, with the drop between the two (``shift``).
    ``compared_on`` is the metric in which it is
    compared with others, ``against_incumbent`` how it stands to the incumbent in that metric.
    ``remarks`` are sentences about the answers as a whole: that all are one, which labels are never given.
    """

    candidate: Digest
    split: Split
    n: int
    metrics: dict[str, Metric]
    items: Digest
    seconds: float
    engine: str
    refer_below: float | None = None
    breakdown: Digest | None = None
    retention: Digest | None = None
    memorisation: Digest | None = None
    unmeasured: dict[str, str] = Field(default_factory=dict)
    incumbent: Digest | None = None
    incumbent_release: Digest | None = None
    shifted: Digest | None = Field(default=None, exclude_if=lambda value: value is None)
    shifted_metrics: dict[str, Metric] = Field(default_factory=dict, exclude_if=lambda value: not value)
    compared_on: str = Field(default="", exclude_if=lambda value: not value)
    against_incumbent: Comparison | None = Field(default=None, exclude_if=lambda value: value is None)
    remarks: tuple[str, ...] = Field(default=(), exclude_if=lambda value: not value)


class Finding(Value):
    """One KPI or limit at the gate. ``low``/``high`` is the interval that was judged, ``bound`` the target or the maximum."""

    name: str
    kind: str
    bound: float
    value: float | None
    low: float | None
    high: float | None
    n: int
    verdict: Verdict
    reason: str
    items_needed: int | None = None


class GateResult(Value):
    """The rule applied to evidence. ``confidence`` is what the risk tier asks, ``adjusted_confidence`` what this look had to meet."""

    verdict: Verdict
    split: Split
    confidence: float
    adjusted_confidence: float
    look: int
    findings: tuple[Finding, ...]
    reason: str


class Prediction(Value):
    """What a candidate answered to one item. ``log_probabilities`` maps every label to nats (normalised over
    labels); ``None`` for generation.

    ``ranking`` are document ids, best first, where documents are ranked; ``passages`` those that stood in the prompt: neither is stored.
    ``latency_ms`` and ``request_ms`` as in ``ItemResult``.
    """

    item: Digest
    answer: str
    log_probabilities: dict[str, float] | None = None
    latency_ms: float = 0.0
    request_ms: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    ranking: tuple[str, ...] = ()
    passages: tuple[str, ...] = ()
