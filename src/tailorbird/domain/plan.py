"""Plan: rungs in order, settings, cost estimates, timings and reasons, frozen before anything is spent; preflight of a training."""

from __future__ import annotations

import math
from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import Field

from tailorbird.domain.dataset import Split
from tailorbird.domain.endpoint import Endpoint
from tailorbird.domain.ladder import Refusal, RungKind
from tailorbird.domain.objective import RiskTier, RuleException
from tailorbird.domain.value import Digest, Value


class PreflightSeverity(StrEnum):
    """``BLOCKING``: training would fail, or teach something else than was meant. ``WARNING``: it will work, at a price or not
    everywhere. ``NOTE``: worth knowing."""

    NOTE = "note"
    WARNING = "warning"
    BLOCKING = "blocking"


class PreflightFinding(Value):
    """Something found. ``code`` is stable; ``what`` names counts and labels, and never a row's text; ``remedy`` says what to do next."""

    code: str
    severity: PreflightSeverity
    what: str
    remedy: str


class ShownToken(Value):
    """A token as text, and whether it carries loss (``learned``) or is only read. ``control``: it steers the model, and is no text."""

    text: str
    learned: bool
    id: int = -1
    control: bool = False


class Examination(Value):
    """The findings, worst first; the rows of the first batch, token by token; and what was measured on the way, by name.

    ``first_batch`` holds rows' texts: it is shown to who asked, and never stored.
    """

    findings: tuple[PreflightFinding, ...]
    first_batch: tuple[tuple[ShownToken, ...], ...] = ()
    measured: dict[str, float] = Field(default_factory=dict)

    @property
    def blocking(self) -> tuple[PreflightFinding, ...]:
        """The findings that stand in the way."""
        return tuple(finding for finding in self.findings if finding.severity is PreflightSeverity.BLOCKING)


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
    known. ``loaded`` tells that other processes wanted the cores while the rates were measured. With GPUs, memory and rates are those of
    one.
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


class LoraSettings(Value):
    """Shape of an adapter. ``targets`` are names of linear layers.

    ``rslora`` scales by ``alpha / √rank`` instead of ``alpha / rank``.
    """

    rank: int
    alpha: int
    targets: tuple[str, ...]
    rslora: bool = False

    @property
    def scaling(self) -> float:
        """What ``B A x`` is multiplied with (Hu 2021, arXiv 2106.09685; with ``rslora`` Kalajdzievski 2023, arXiv 2312.03732)."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)


class TrainingSettings(Value):
    """Everything the loop needs, resolved: what a run with these settings does is determined by them, the data and the seed.

    ``batch_size`` counts rows per optimiser step, ``token_budget`` packed tokens per forward pass. ``warmup`` and
    ``decay`` are shares of all steps. ``threads`` compute a product on the processor: how many can change the last bits of a sum, so the
    number is kept wherever the run goes on; 0 leaves it to the machine. ``waiting_epochs`` may be added while a run has not begun to learn
    (``training/loop.py``).
    """

    method: Literal["lora", "qlora", "full"]
    lora: LoraSettings | None
    learning_rate: float
    epochs: int
    batch_size: int
    token_budget: int
    max_length: int
    warmup: float = 0.1
    weight_decay: float = 0.0
    clip_norm: float = 1.0
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
    ``ranker`` finds the passages of a grounded rung where the objective names a release for that. ``endpoint`` is what a hosted rung asks,
    with passages of the documents where it is ``grounded``; ``calls`` what a prompt's search may ask.
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
    energy: Estimate | None = None
    serving_cost: Estimate | None = None
    training_time: Estimate | None = None
    training_memory: Estimate | None = None
    index_time: Estimate | None = None
    calibrated: str = ""
    base: Digest | None = None
    total: Estimate | None = None
    ranker: PlannedRanker | None = None
    endpoint: Endpoint | None = None
    calls: int = 0
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


class PlannedFloor(Value):
    """The floor: its role, and what it reads beside words: the vectors of ``encoder`` (tree), by its name and licence; None: words alone.

    The estimates are of making and measuring it, ``vectors_time`` the part of the vectors, ``total`` as that of a rung; ``refused`` says
    why it is not made at all.
    """

    role: Literal["rung", "reference"]
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
    ``floor`` is that of a classify task. ``shift`` is what the shifted part of dev and of test can prove, where there is one,
    ``exceptions`` the rules of the tier that the objective does not follow. ``traffic`` is what the order rests on. ``comparison`` says in
    which metric candidates are compared, ``incumbent`` what can be proven against a release that answers now. ``encoder`` names the record
    of the encoder that rungs read or tune. ``memory_limit_gb`` are the GiB that the whole process may take. ``risk`` is the objective's
    tier, by which the gate's intervals are as sure as they are.
    """

    objective: Digest
    snapshot: Digest
    base_model: Digest
    machine: Machine
    rungs: tuple[RungPlan, ...]
    left_out: tuple[Refusal, ...]
    dev_power: tuple[Power, ...]
    test_power: tuple[Power, ...]
    comparison: PlannedComparison
    memory_limit_gb: float
    risk: RiskTier
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
    incumbent: PlannedIncumbent | None = None


class TimedPass(Value):
    """A forward and backward pass over packed rows: ``tokens``, (query, key) ``pairs`` that are not masked, ``answers`` that met the head.

    ``seconds`` of both directions, ``forward_seconds`` without gradients, ``peak_gb`` the highest resident set of the process (GiB).
    """

    tokens: int
    pairs: int
    answers: int
    seconds: float
    forward_seconds: float
    peak_gb: float


class Calibration(Value):
    """A few timed steps of one method on one base model and machine, at ``settings``.

    ``machine`` names the machine, ``base_model`` the weights. ``process_gb`` is the resident set before the model was read, ``held_gb``
    that between two steps (weights, moments). ``update_seconds`` is one optimiser step, ``moments_seconds`` what the first takes beyond
    that, ``write_mb_s`` how fast the workspace keeps a checkpoint: written, synced, and read again for its digest.

    All seconds are those of a quiet machine. ``loaded`` tells that other processes wanted the cores meanwhile, so that they were put
    together from processor time: good for some hours, and read anew after that. ``efficiency`` is the share of the time in which the thread
    that calls the products computed, where the machine was quiet (0: unknown).
    """

    machine: str
    base_model: Digest
    settings: TrainingSettings
    measured_at: datetime
    passes: tuple[TimedPass, ...]
    update_seconds: float
    moments_seconds: float = 0.0
    read_seconds: float
    write_mb_s: float
    process_gb: float
    held_gb: float
    trained_parameters: int
    efficiency: float = 0.0
    loaded: bool = False
