"""Plan: rungs in order, settings, cost estimates and reasons, frozen before anything is spent."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from tailorbird.domain.dataset import Split
from tailorbird.domain.endpoint import Endpoint
from tailorbird.domain.evidence import Metric
from tailorbird.domain.ladder import Refusal, RungKind
from tailorbird.domain.objective import RiskTier, RuleException
from tailorbird.domain.preflight import PreflightFinding
from tailorbird.domain.value import Digest, Value


def amount(value: float, *, up: bool = False) -> str:
    """In hundredths, or with two digits that say something where it is less than a tenth; ``up`` rounds up."""
    digits = 2 if value >= 0.1 or value <= 0 else min(12, 1 - math.floor(math.log10(value)))
    return f"{math.ceil(round(value * 10**digits, 6)) / 10**digits if up else value:.{digits}f}"


class Estimate(Value):
    """A predicted quantity as an interval; ``low`` ≤ ``likely`` ≤ ``high``."""

    low: float
    likely: float
    high: float
    unit: str


class Reason(Value):
    """Why a choice was made: the rule's name, the sentence a person reads, and the rule's source."""

    rule: str
    text: str
    source: str


class Machine(Value):
    """This machine as planning sees it. Rates are measured bf16/fp32 matmul speeds in GFLOP/s; memory in GiB.

    ``fast_bf16`` tells whether its processor multiplies bf16 matrices at more than the rate of fp32 ones: what its instructions say, not a
    timing, which a passing load could turn, and with it what is trained. ``four_bit`` tells whether weights in 4 bits can be trained on
    (bitsandbytes is installed). ``threads`` are those that a product is computed by on its processor; 0 where a GPU computes, or it is not
    known. ``loaded`` tells that other processes wanted the cores while the rates were measured. ``bandwidth_gbs`` is the maker's memory
    bandwidth (GB/s), 0 where it is not known. With GPUs, memory and rates are those of one.
    """

    cores: int
    memory_gb: float
    gpus: tuple[str, ...] = ()
    fp32_gflops: float = 0.0
    bf16_gflops: float = 0.0
    fast_bf16: bool = False
    training: bool = True
    four_bit: bool = False
    threads: int = 0
    loaded: bool = False
    bandwidth_gbs: float = 0.0


class LoraSettings(Value):
    """Shape of an adapter. ``targets`` are names of linear layers.

    ``rslora`` scales by ``alpha / √rank`` instead of ``alpha / rank``;
    ``b_rate`` is how many times faster B learns than A (LoRA+).
    """

    rank: int
    alpha: int
    targets: tuple[str, ...]
    rslora: bool = False
    b_rate: float = 1.0

    @property
    def scaling(self) -> float:
        """What ``B A x`` is multiplied with (Hu 2021, arXiv 2106.09685; with ``rslora`` Kalajdzievski 2023, arXiv 2312.03732)."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


class TrainingSettings(Value):
    """Everything the loop needs, resolved: what a run with these settings does is determined by them, the data and the seed.

    ``batch_size`` counts rows per optimiser step, ``token_budget`` packed tokens per forward pass. ``warmup`` and
    ``decay`` are shares of all steps. ``threads`` compute a product on the processor: how many can change the last bits of a sum, so the
    number is kept wherever the run goes on; 0 leaves it to the machine. ``waiting_epochs`` may be added while a run has not begun to learn
    (``training/validation.py``).
    """

    method: Literal["lora", "qlora", "full"]
    lora: LoraSettings | None
    learning_rate: float
    epochs: int
    batch_size: int
    token_budget: int
    max_length: int
    warmup: float
    weight_decay: float
    clip_norm: float
    evaluations_per_epoch: int
    precision: Literal["bf16", "fp32"]
    seed: int
    threads: int = Field(default=0, ge=0)
    waiting_epochs: int = 0


class PlannedRanker(Value):
    """A release of kind rank that finds the passages of a grounded rung: its ``objective``, its digest, what ``made`` it (``bi-encoder on
    minilm-l6-v2``), and of its retrieval what finds passages, as in ``Retrieval``. ``parameters`` are those of its encoder."""

    objective: str
    release: Digest
    made: str
    ways: tuple[Literal["words", "vectors"], ...]
    encoder: Digest | None
    tuned: Digest | None = None
    reranker: Digest | None = None
    depth: int
    parameters: int


class RungPlan(Value):
    """One rung: settings where it trains, estimates, and the reason of each choice.

    ``time`` (s), ``memory`` (GiB of the whole process), ``money`` and ``energy`` (kWh) are of making the candidate and measuring it on dev;
    ``training_time`` (s) and ``training_memory`` (GiB that the process grows by) of the training alone; ``index_time`` (s) of reading what
    is looked up by vectors, which the first rung of the climb does for all that look the same up; ``serving_cost`` is of 1,000
    requests, and ``total`` of making it and of all requests of the plan's traffic. ``shots`` counts demonstrations, or entries that are
    looked up, by vectors too where an ``encoder`` (tree) is named. ``calibrated`` is the day of the timed steps behind the estimates, empty
    without. ``base`` names the record of the base model where the plan has several; the variant tells it, too (``r16 on smollm2-135m``).
    ``ranker`` finds the passages of a grounded rung where the objective names a release for that; ``rewrite``: queries are rewritten first.
    ``endpoint`` is what a hosted rung asks, with passages of the documents where it is ``grounded``; ``calls`` what a prompt's search may
    ask, ``proposer`` the endpoint that writes instructions for it, where the objective names one.
    """

    rung: RungKind
    variant: str
    training: TrainingSettings | None
    shots: int = 0
    encoder: Digest | None = None
    trained_parameters: int = 0
    time: Estimate
    memory: Estimate
    money: Estimate
    flops: Estimate | None = None
    energy: Estimate | None = None
    serving_cost: Estimate | None = None
    training_time: Estimate | None = None
    training_memory: Estimate | None = None
    index_time: Estimate | None = None
    calibrated: str = ""
    base: Digest | None = None
    total: Estimate | None = None
    ranker: PlannedRanker | None = None
    rewrite: bool = False
    endpoint: Endpoint | None = None
    calls: int = 0
    proposer: Endpoint | None = None
    grounded: bool = False
    reasons: tuple[Reason, ...]

    @property
    def trains_base(self) -> bool:
        """True where the base model learns, as a decoder."""
        return self.training is not None and self.rung in (RungKind.LORA, RungKind.QLORA, RungKind.GROUNDED_LORA, RungKind.FULL)


class Power(Value):
    """What a split can prove about one KPI: the smallest observed value that would pass, and the items it rests on.

    ``must_be`` is the smallest true value that is released four times out of five, although rungs below it that do not reach the target may
    spend looks; None where no value is. ``groups`` is the number of groups that the items fall into, where any share one; None where each
    stands alone.
    """

    kpi: str
    target: float
    n: int
    must_observe: float
    provable: bool
    must_be: float | None = None
    groups: int | None = None


class ShiftPower(Value):
    """What the shifted part of a split can prove: ``open`` is how large a drop stays open for a candidate with every item right, on the
    ``n`` shifted items and on the others; ``groups`` as in ``Power``."""

    split: Split
    n: int
    open: float
    groups: int | None = None


#: Layout of the rows of a training pass, as its proof on the architecture chose it: packed behind the beginning that they share, padded to
#: one length, or one row at a time.
PassLayout = Literal["packed", "padded", "single"]


class TokenProfile(Value):
    """Lengths in tokens, as the base model counts them. ``shared_prefix`` is what every rendered prompt begins with
    (template, instruction).

    ``prompt_*`` count a whole rendered prompt, prefix included; ``target_*`` an answer with its end-of-turn token.
    ``label_trie`` counts the nodes of the labels' token trie, ``label_list`` the tokens of all labels in a list (0 without labels).
    ``row_sd`` is the standard deviation of whole rows. ``earlier_mean`` counts tokens of earlier answers in a conversation that are
    learned, too (``learn: all``). ``layout`` is how a training lays out the rows.
    """

    shared_prefix: int
    prompt_mean: float
    prompt_p95: int
    prompt_max: int
    target_mean: float
    target_max: int
    label_trie: int
    label_list: int = 0
    row_sd: float = 0.0
    earlier_mean: float = 0.0
    layout: PassLayout = "packed"

    @property
    def listed(self) -> int:
        """Tokens of all labels in a list. Plans of earlier versions held them as the trie's."""
        return self.label_list or self.label_trie

    @property
    def learned_mean(self) -> float:
        """Tokens that are learned of a row."""
        return self.target_mean + self.earlier_mean


class Prices(Value):
    """What this machine costs. ``per_hour`` in ``currency``; ``watts`` is the power drawn while working, ``per_kwh`` what it costs where
    ``per_hour`` does not hold it."""

    per_hour: float = 0.10
    currency: str = "EUR"
    watts: float = 65.0
    per_kwh: float = 0.0

    @property
    def kilowatts(self) -> float:
        """The power drawn while working."""
        return self.watts / 1000

    @property
    def per_second(self) -> float:
        """What a second costs, its energy too where that is paid apart."""
        return (self.per_hour + self.per_kwh * self.kilowatts) / 3600


class ProvenBetter(Value):
    """A base that is proven better on the rows of a probe: its ``label``, and by how much."""

    label: str
    difference: float
    low: float
    high: float
    confidence: float


class BaseProbe(Value):
    """What a base model did zero-shot on a few dev rows: its ``score`` with an interval, time and tokens of a row (prompt and answer).

    ``items`` names its item results, ``worse_than`` the bases that are proven better on the same rows.
    """

    rows: int
    score: Metric
    seconds_per_row: float
    tokens_per_row: float
    items: Digest
    worse_than: tuple[ProvenBetter, ...] = ()


class PlannedBase(Value):
    """A base model that the objective lists. ``name`` is how it is listed, ``label`` how rungs name it; ``parameters`` is 0 where nobody
    could tell. ``reason`` says why it is in or out, and out it is where ``rungs`` is 0.

    ``base`` names its record and ``tokens`` counts with its tokenizer; both are None where it stayed out before it was fetched.
    """

    name: str
    label: str
    license: str
    parameters: int
    rungs: int
    reason: str
    base: Digest | None = None
    tokens: TokenProfile | None = None
    probe: BaseProbe | None = None


class PlannedFloor(Value):
    """The floor: its role, and what it reads beside words: the vectors of ``encoder`` (tree), by its name and licence; None: words alone.

    ``role`` is empty in plans of before it was the lowest rung of an automatic ladder: there it is one where the objective lists it. The
    estimates are of making and measuring it, ``vectors_time`` the part of the vectors, ``total`` as that of a rung; ``refused`` says why it
    is not made at all.
    """

    role: Literal["", "rung", "reference"] = ""
    encoder: Digest | None = None
    name: str = ""
    license: str = ""
    reason: Reason
    time: Estimate | None = None
    vectors_time: Estimate | None = None
    memory: Estimate | None = None
    money: Estimate | None = None
    energy: Estimate | None = None
    serving_cost: Estimate | None = None
    total: Estimate | None = None
    refused: str = ""


class PlannedTraffic(Value):
    """The requests that the totals of a plan count; ``assumed`` where the objective does not name them."""

    per_month: int
    horizon_months: float
    assumed: bool


class Flip(Value):
    """Two rungs that change places with the traffic: below ``per_month`` requests a month ``below`` costs less in all, above it ``above``.

    ``low`` and ``high`` are what the ends of the estimates allow; ``high`` is None where no volume is sure to turn the two round.
    """

    below: str
    above: str
    per_month: float
    low: float
    high: float | None


class PlannedComparison(Value):
    """In which metric candidates are compared, and within which ``margin``, in its ``unit``. ``dev_smallest`` and ``test_smallest`` are
    the smallest margins that the items could prove of two candidates which never differ (test: at a first look)."""

    metric: str
    margin: float
    unit: str
    dev_smallest: float
    test_smallest: float
    reason: Reason


class PlannedIncumbent(Value):
    """What the sealed test can prove against a release that answers now, at look ``look`` and ``confidence``.

    Two that are equally good and differ on a share ``disagreement`` of the ``n`` (independent) items are proven to be so within
    ``provable``; ``items_needed`` items would prove the margin, None where a million would not. ``release`` is None where none answers
    yet. ``assumption`` says where the disagreement is from.
    """

    release: Digest | None
    look: int
    confidence: float
    n: int
    disagreement: float
    provable: float
    items_needed: int | None
    assumption: str


class Plan(Value):
    """The frozen plan of a climb, cheapest rung first. ``findings`` are what an examination of its training found, none of it blocking;
    ``tokens``, ``prices`` and ``calibrations`` are what its estimates rest on.

    ``bases`` are the base models that the objective lists, in its order; ``base_model`` and ``tokens`` are those of the first that is in.
    ``floor`` is that of a classify task; None in plans of before it read vectors. ``shift`` is what the shifted part of dev and of test can
    prove, where there is one, ``exceptions`` the rules of the tier that the objective does not follow. ``traffic`` is what the order rests
    on, ``flips`` are the volumes at which it would be another; plans of before traffic counted have neither.
    ``comparison`` says in which metric candidates are compared, ``incumbent`` what can be proven against a release that answers now; None
    in plans of before they were planned. ``encoder`` names the record of the encoder that rungs read or tune; None without one, and in
    plans of before it was kept. ``memory_limit_gb`` are the GiB that the whole process may take; 0 in plans of before it was told.
    ``risk`` is the objective's tier, by which the gate's intervals are as sure as they are; None in plans of before it was kept.
    ``formats`` are what number formats of the engine were measured to lose before; nothing of the plan rests on them.
    """

    objective: Digest
    snapshot: Digest
    base_model: Digest
    machine: Machine
    rungs: tuple[RungPlan, ...]
    left_out: tuple[Refusal, ...]
    dev_power: tuple[Power, ...]
    test_power: tuple[Power, ...]
    findings: tuple[PreflightFinding, ...] = ()
    tokens: TokenProfile | None = None
    prices: Prices = Prices()
    calibrations: tuple[Digest, ...] = ()
    bases: tuple[PlannedBase, ...] = ()
    floor: PlannedFloor | None = None
    encoder: Digest | None = None
    shift: tuple[ShiftPower, ...] = ()
    exceptions: tuple[RuleException, ...] = ()
    traffic: PlannedTraffic | None = None
    flips: tuple[Flip, ...] = ()
    comparison: PlannedComparison | None = None
    incumbent: PlannedIncumbent | None = None
    memory_limit_gb: float = 0.0
    risk: RiskTier | None = None

    def flips_near(self, most: int = 3) -> tuple[Flip, ...]:
        """Up to ``most`` flips on either side of the plan's own volume, those nearest to it, in the order of their volumes."""
        here = self.traffic.per_month if self.traffic else 0
        below = [flip for flip in self.flips if flip.per_month <= here][-most:]
        return (*below, *[flip for flip in self.flips if flip.per_month > here][:most])


class FitMachine(Value):
    """A machine: this one, with measured rates, or one GPU of the catalogue, with its maker's. ``memory_gb`` is that of the GPU where there
    is one; ``bandwidth_gbs`` is 0 where it is not known."""

    name: str
    measured: bool
    memory_gb: float
    tflops: float
    bandwidth_gbs: float
    precision: Literal["bf16", "fp32"]


class MethodFit(Value):
    """A training method on a machine, in GiB: ``weights``, ``optimiser`` (gradients, moments), ``activations`` (logits and copies
    included), ``memory`` of the whole process with ``measuring`` the result included. It ``fits`` when the likely memory does, and is
    ``tight`` where the upper end does not. ``speed`` is in trained tokens a second, and ``pass_tokens`` are packed into a pass."""

    method: Literal["lora", "qlora", "full"]
    machine: str
    trained_parameters: int
    weights_gb: float
    optimiser_gb: float
    activations_gb: float
    measuring_gb: float
    memory: Estimate
    verdict: Literal["fits", "tight", "too large"]
    speed: Estimate
    pass_tokens: int


class SufficientMachine(Value):
    """The smallest known machine that would do for a method: ``count`` of one GPU; 0 where none would. ``text`` says so."""

    method: Literal["lora", "qlora", "full"]
    gpu: str
    count: int
    text: str


class ModelFit(Value):
    """What was read of a base model, what was assumed, and how each method fits each machine.

    ``model_type`` is empty where the headers of the weights told the shape. ``active_parameters`` are those of the layers that a token
    meets; ``notes`` are sentences on what the numbers rest on.
    """

    name: str
    model_type: str
    parameters: int
    active_parameters: int
    layers: int
    hidden: int
    context: int
    length: int
    rank: int
    machines: tuple[FitMachine, ...]
    methods: tuple[MethodFit, ...]
    sufficient: tuple[SufficientMachine, ...]
    notes: tuple[str, ...]
