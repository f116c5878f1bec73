"""Evidence on a candidate: metrics with intervals, paired comparisons, errors, retention, memorisation, scope, and proof of effect."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from tailorbird.domain.dataset import Split
from tailorbird.domain.endpoint import HostedUse
from tailorbird.domain.prompt import Message
from tailorbird.domain.value import Digest, Section, Value

#: So many of the likeliest tokens are told at a position: no protocol gives more.
TOLD = 20
#: Nats below which a label's score is told as no less.
LEAST_SCORE = 100.0


class TokenChances(Value):
    """The likeliest first tokens of an answer (their bytes, in hexadecimal), likeliest first, and their log-probabilities (nats)."""

    tokens: tuple[str, ...]
    nats: tuple[float, ...]

    def nats_of(self, token: str) -> float:
        """Log-probability of ``token``; where it is not among those told, that of the last one, which it does not exceed."""
        return self.nats[self.tokens.index(token)] if token in self.tokens else self.nats[-1]


class ReferenceProbe(Value):
    """A synthetic question, and the chances of the first token of its answer: by the base alone, and by the candidate."""

    text: str
    base: TokenChances
    candidate: TokenChances

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The question as a conversation."""
        return (Message(role="user", content=self.text),)


def chances_of_labels(labels: Sequence[str], nats: Sequence[float]) -> TokenChances:
    """Scores of labels (log-probabilities, nats) as chances: the likeliest ``TOLD``."""
    ranked = sorted(zip(labels, nats, strict=True), key=lambda one: -one[1])[:TOLD]
    told = tuple(max(score, -LEAST_SCORE) for _, score in ranked)  # that of a label which is out of the question may be minus infinity
    return TokenChances(tokens=tuple(label.encode().hex() for label, _ in ranked), nats=told)


class EffectProof(Value):
    """What the candidate changes in its base, at the first token of the answers to ``probes``. Distances are root mean squares, in nats.

    ``effect`` is that between candidate and base; ``noise`` how far it moved when the probes were asked in other batches; ``parts`` how
    far the candidate is from itself without one kind of mapped module, by kind. Kinds in ``hidden`` change less than noise lets anybody
    see. ``unprovable`` says why nothing at all can be shown; then there may be no probes. ``engine`` measured it. Full weights
    (``kind``) have no base beside them where they are served: their chances are compared as they are. So are those of a prompt's ``base``,
    and a floor's or encoder's ``scores`` of its ``labels``, told as chances of those: there ``base`` and ``candidate`` are the same.
    """

    kind: Literal["adapter", "weights", "base", "scores"] = "adapter"
    labels: tuple[str, ...] = ()
    probes: tuple[ReferenceProbe, ...] = ()
    effect: float = 0.0
    noise: float = 0.0
    parts: dict[str, float] = Field(default_factory=dict)
    hidden: tuple[str, ...] = ()
    unprovable: str = ""
    engine: str = ""

    @property
    def is_absolute(self) -> bool:
        """True where nothing was trained that a base could be compared with: what answers is compared as it is."""
        return self.kind in ("base", "scores")


class EffectStanding(StrEnum):
    """What an engine showed of a release. ``UNPROVEN``: the release ranks documents, or is a hosted model."""

    SHOWN = "shown"
    INERT = "inert"
    DIFFERS = "differs"
    UNPROVABLE = "unprovable"
    UNPROVEN = "unproven"


class EffectReading(Value):
    """What one engine showed: the effect that it has, its distance from the recorded one, the engine's noise, and the distance allowed."""

    standing: EffectStanding
    effect: float = 0.0
    distance: float = 0.0
    noise: float = 0.0
    allowed: float = 0.0


#: The label of examples that none of the task's labels fits, unless the objective names another.
OUT_OF_SCOPE = "out of scope"

#: Groups of examples by which a scorer is chosen; of fewer, one alone would choose it, and labels are left out as without any.
FEWEST_EXAMPLES = 20


class ScopePolicy(Section):
    """Requests that none of the labels fits are not labelled, and people receive them."""

    refuse_known_at_most: Annotated[float, Field(ge=0.001, le=0.5)] = 0.05
    """The share of requests that a label does fit, and that may be refused all the same: the threshold is calibrated on dev to it."""
    label: str = Field(default=OUT_OF_SCOPE, min_length=1, max_length=200)
    """What the label column says of an example that none of the labels fits. Examples are not needed; they are measured on, and never
    learned from. A file of nothing else is a source with ``out_of_scope: true``."""


class ScopeScorer(StrEnum):
    """What tells how well a request lies in scope; more is better, and of scorers that do equally well the first one is taken.

    ``PROBABILITY`` is that of the likeliest label (Hendrycks & Gimpel 2017, arXiv 1610.02136), ``MARGIN`` its distance from the second in
    nats, ``ENERGY`` the logarithm of the sum of all exponentiated scores (Liu et al. 2020, arXiv 2010.03759), ``NEARNESS`` the cosine of a
    text's vector and that of the nearest training row (Sun et al. 2022, arXiv 2204.06507). ``BOTH`` is the logarithm of the
    probability with five times the nearness. The last three need what scores to give them.
    """

    PROBABILITY = "probability"
    MARGIN = "margin"
    ENERGY = "energy"
    NEARNESS = "nearness"
    BOTH = "both"


class ScopeRule(Value):
    """A request whose score by ``scorer`` lies below ``refuse_below`` is out of scope."""

    scorer: ScopeScorer
    refuse_below: float


class ScorerTrial(Value):
    """How well a scorer tells what is in scope: the area under its ROC curve, with its interval."""

    scorer: ScopeScorer
    auroc: float
    low: float
    high: float


class ScopePoint(Value):
    """What one threshold does: the shares of requests in scope that are refused, and of those out of scope that are answered."""

    refuse_below: float
    known_refused: float
    out_of_scope_answered: float


class ScopeTrial(Value):
    """Scorers compared. ``by``: on ``examples`` that are out of scope, or on rows of known labels that were left out of fitting
    (``labels``: each once, in ``folds`` parts by the hash of their names). ``known`` and ``outside`` count the rows of both kinds."""

    by: Literal["examples", "labels"]
    known: int
    outside: int
    folds: int = 0
    scorers: tuple[ScorerTrial, ...]

    @property
    def best(self) -> ScorerTrial:
        """The scorer that tells best; of equals the first."""
        return max(self.scorers, key=lambda trial: trial.auroc)


class ScopeEvidence(Value):
    """How requests out of scope are refused: the rule, what its scorer was chosen by on dev (None: nothing could tell scorers apart, the
    first one is used), and what other thresholds would do on this split, where it holds examples. ``refused`` counts this split's items
    that a label fits and that the rule refuses, by the label that they would have been given."""

    rule: ScopeRule
    trial: ScopeTrial | None = None
    points: tuple[ScopePoint, ...] = ()
    refused: dict[str, int] = Field(default_factory=dict)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The rule, and how it was chosen."""
        rule = (
            f"a request whose {self.rule.scorer.value} lies below {self.rule.refuse_below:.4g} is out of scope: no label, and people get it"
        )
        if self.trial is None:
            return rule, "there are no examples, and too few labels to leave any out: how well it tells is not known"
        trial = self.trial
        by = (
            f"{trial.outside:,} examples"
            if trial.by == "examples"
            else f"{trial.outside:,} rows of labels left out, {trial.folds} parts in turn"
        )
        areas = ", ".join(f"{each.scorer.value} {each.auroc:.3f} [{each.low:.3f}, {each.high:.3f}]" for each in trial.scorers)
        return rule, f"chosen on dev by {by}, against {trial.known:,} rows that a label fits; area under the ROC curve: {areas}"


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


class CandidateComparison(Value):
    """``one`` minus ``other``. ``compared_on`` is the metric by which the first one's objective compares. ``paired`` holds a comparison a
    metric where both answered the same items. ``remarks`` are what a reader must know before believing it."""

    one: Side
    other: Side
    compared_on: str = ""
    paired: tuple[Comparison, ...] = ()
    remarks: tuple[str, ...] = ()
