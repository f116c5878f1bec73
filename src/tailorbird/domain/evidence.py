"""Evidence: metrics with intervals, paired comparisons, error breakdown, retention and memorisation of a candidate."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from tailorbird.domain.dataset import Split
from tailorbird.domain.endpoint import HostedUse
from tailorbird.domain.scope import ScopeEvidence, ScopeScorer
from tailorbird.domain.value import Digest, Value

#: Further requests that are timed for the limits on what answering takes, at most.
MOST_FURTHER_REQUESTS = 640


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
    possible. ``labels`` are those that were compared, where the two do not know the same; empty: all.
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
    less_is_better: bool = False
    smallest_margin: float | None = None
    reason: str = ""
    labels: tuple[str, ...] = ()

    @property
    def is_loss(self) -> bool:
        """True where the interval lies wholly on the side on which ``upper`` is the worse one: that it is not better is settled, even where
        it is open whether it is worse by more than the margin."""
        return not self.reason and (self.low > 0 if self.less_is_better else self.high < 0)


class Evidence(Value):
    """What one candidate did on one split. ``items`` names the JSONL artifact with every ``ItemResult``, ``breakdown`` the artifact with
    what lies behind the metrics (``domain/evidence.py``).

    ``retention`` and ``memorisation`` name the artifacts of what training cost (``domain/evidence.py``), where the objective limits it;
    ``unmeasured`` says why a limit was not measured. ``incumbent`` names the
    item results, on the same items, of ``incumbent_release``, which answered when this was measured. ``refer_below`` is the probability
    below which an answer counted as referred to a person: calibrated on dev, kept on test. ``shifted`` names the results of the items of
    the shifted part, and ``shifted_metrics`` what they come to; ``metrics`` are of the others, with the drop between the two (``shift``).
    ``compared_on`` is the metric in which it is
    compared with others, ``against_incumbent`` how it stands to the incumbent in that metric.
    ``remarks`` are sentences about the answers as a whole: that all are one, which labels are never given. ``hosted`` is
    what was found of the server of a hosted candidate, ``scope`` how it refuses requests out of scope: calibrated on dev, kept on test.
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
    shifted: Digest | None = None
    shifted_metrics: dict[str, Metric] = Field(default_factory=dict)
    compared_on: str = ""
    against_incumbent: Comparison | None = None
    remarks: tuple[str, ...] = ()
    hosted: HostedUse | None = None
    scope: ScopeEvidence | None = None


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
    ``latency_ms`` and ``request_ms`` as in ``ItemResult``. ``scope`` tells how well the item lies in scope, by each scorer that can tell.
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
    scope: dict[ScopeScorer, float] = Field(default_factory=dict)


class Confusion(Value):
    """How often ``target`` was answered with ``answer``, with a few of the items."""

    target: str
    answer: str
    count: int
    examples: tuple[Digest, ...]


class Slice(Value):
    """A part of the items, and the share of them that came out right, with its interval. ``segment`` is what the parts are cut by
    (``label``, ``source``, ``length``), ``name`` this part; ``worst`` are a few items that came out wrong."""

    segment: str
    name: str
    n: int
    value: float
    low: float
    high: float
    worst: tuple[Digest, ...] = ()


class Bin(Value):
    """Items of like probability: the mean of what the model said, and the share that was right."""

    n: int
    said: float
    right: float


class Referred(Value):
    """A point of the risk-coverage curve: with items below ``refer_below`` left to people, the share that is answered, and the share of
    wrong answers among them with its upper bound (None when nothing is answered)."""

    refer_below: float
    coverage: float
    risk: float | None
    risk_high: float | None


class Breakdown(Value):
    """What lies behind the metrics of one candidate on one split. ``slices`` are sorted by segment, the worst first."""

    confusions: tuple[Confusion, ...] = ()
    slices: tuple[Slice, ...] = ()
    reliability: tuple[Bin, ...] = ()
    referral: tuple[Referred, ...] = ()


class Retained(Value):
    """One family of probes: the shares that base and candidate got right. ``drop`` is base minus candidate, with its interval."""

    family: str
    n: int
    base: float
    candidate: float
    drop: float
    low: float
    high: float


class Retention(Value):
    """Base against candidate on the same probes. ``lost`` only the base got right, ``won`` only the candidate; ``p_value`` is two-sided
    exact McNemar. ``divergence`` is KL(base ‖ candidate) of next-token distributions on neutral text, in nats per token."""

    families: tuple[Retained, ...]
    overall: Retained
    lost: int
    won: int
    p_value: float
    confidence: float
    divergence: float
    divergence_tokens: int


class Memorisation(Value):
    """What of the strings planted in training can be got back.

    ``extracted`` of ``planted`` came back word for word; ``extractable_share`` is the upper bound on that share. ``exposures`` tell in bits
    how far up each planted string ranks among ``twins`` that were not planted (0 to log2(twins + 1); 1.44 on average for a model that never
    saw it), ``p_value`` whether such ranks are chance. ``received`` is True when every planted string carried loss before the weights that
    were kept; ``control_rank`` is the rank of the control, which was planted many times: 1 when it was found.
    """

    planted: int
    extracted: int
    extractable_share: float
    twins: int
    exposures: tuple[float, ...]
    p_value: float
    received: bool
    control_rank: int

    @property
    def valid(self) -> bool:
        """True when the look could have found something: all strings were learned from, and the control was found."""
        return self.received and self.control_rank == 1


class Side(Value):
    """One of the two: whose it is, on what it was measured, what it cost to make; memory as in ``Climb``."""

    name: str
    run: str
    candidate: Digest
    split: str
    n: int
    metrics: dict[str, Metric]
    trained_parameters: int
    seconds: float
    peak_memory_gb: float
    money: float
    process_memory_gb: float = 0.0


class Unpaired(Value):
    """A difference of two shares that were not measured on the same items."""

    metric: str
    difference: float
    low: float
    high: float
    standing: Standing
    items_needed: int | None


class CandidateComparison(Value):
    """``one`` minus ``other``. ``compared_on`` is the metric by which the first one's objective compares. ``paired`` holds a comparison a
    metric where both answered the same items; ``unpaired`` the rest of what can be said where they did not. ``remarks`` are what a reader
    must know before believing either."""

    one: Side
    other: Side
    compared_on: str = ""
    paired: tuple[Comparison, ...] = ()
    unpaired: tuple[Unpaired, ...] = ()
    remarks: tuple[str, ...] = ()
