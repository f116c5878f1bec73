"""Ladder: rungs, the candidates they made, and the reason for each step up."""

from __future__ import annotations

from enum import StrEnum

from tailorbird.domain.endpoint import HostedModel, HostedUse
from tailorbird.domain.evidence import Comparison, Evidence, GateResult, ScopeTrial
from tailorbird.domain.prompt import PromptSpec, Retrieval
from tailorbird.domain.run import TrainingOrigin
from tailorbird.domain.value import Digest, Value


class RungKind(StrEnum):
    """A way to adapt. The order of definition is that of what making takes. ``FLOOR`` is a classical model: the lowest rung of a classify
    task, or a reference beside the ladder."""

    FLOOR = "floor"
    ENCODER = "encoder"
    SEARCH = "search"
    PROMPT = "prompt"
    NEAREST = "nearest"
    GROUNDING = "grounding"
    HOSTED = "hosted"
    PROMPT_SEARCH = "prompt-search"
    LORA = "lora"
    QLORA = "qlora"
    GROUNDED_LORA = "grounding+lora"
    BI_ENCODER = "bi-encoder"
    CROSS_ENCODER = "cross-encoder"
    FULL = "full"


#: Encoders that are tuned and averaged where an item bears one label, and the parts of the rows of which each lacks its own.
AVERAGED_ENCODERS, ENCODER_PARTS = 4, 20


class Candidate(Value):
    """What a rung made. At most one of ``adapter`` and ``weights`` is set; a prompt candidate has neither.

    ``floor`` is the fitted linear model, with the encoder that it reads, of a floor that may be released or of an encoder tuned for its
    labels; ``tuned`` the tree of that encoder, or of the adapter of ``encoder`` (tree), as it was trained. ``retrieval`` is what is looked
    up for each text, ``hosted`` the model of an endpoint that answers in place of the base model.
    ``variant`` tells candidates of one rung apart (``zero-shot``, ``few-shot``, ``r16``). Nothing measured stands here: making the same
    candidate again gives the same digest.
    """

    rung: RungKind
    variant: str
    base_model: Digest
    prompt: PromptSpec
    adapter: Digest | None = None
    weights: Digest | None = None
    floor: Digest | None = None
    tuned: Digest | None = None
    retrieval: Retrieval | None = None
    trained_parameters: int = 0
    seed: int = 0
    hosted: HostedModel | None = None
    encoder: Digest | None = None

    @property
    def speaks(self) -> bool:
        """True where a language model answers; False of a linear model, which reads words or vectors."""
        return self.rung not in (RungKind.FLOOR, RungKind.ENCODER)


class Making(Value):
    """How a candidate came about: what its rung's step leaves. ``candidate`` is None when a limit ended the step before there was one,
    or when it ``failed``; ``stopped`` then says why. A step of measuring that failed leaves one too.

    ``seconds`` is the time to make it, ``peak_memory_gb`` the resident set above the loaded model in GiB, ``process_memory_gb`` the highest
    resident set of the whole process meanwhile, ``money`` in the objective's currency, ``energy_kwh`` what it drew, estimated from the
    power that the prices name. ``training`` names the training report. ``reused`` is the training of another run whose weights were taken
    instead of training them again: what that cost is not in the other fields. ``hosted`` is what an endpoint was asked meanwhile;
    its price is part of ``money``. ``search`` names the log of a prompt's
    search.
    ``scope`` is how well scorers told rows of labels that were left out of fitting.
    """

    candidate: Digest | None
    stopped: str = ""
    failed: bool = False
    training: Digest | None = None
    seconds: float = 0.0
    peak_memory_gb: float = 0.0
    money: float = 0.0
    energy_kwh: float = 0.0
    process_memory_gb: float = 0.0
    reused: TrainingOrigin | None = None
    hosted: HostedUse | None = None
    search: Digest | None = None
    scope: ScopeTrial | None = None


class Fit(Value):
    """How far a training got, in nats an answer token: on the rows that it learned (the mean of the last steps) and on those held out."""

    learned: float
    held_out: float

    @property
    def saturated(self) -> bool:
        """True when the rows are known by heart and the held-out ones are not: what is missing is data, and more weights are none."""
        return self.learned <= 0.1 and self.held_out >= 3 * self.learned and self.held_out >= 0.05


class Allowance(Value):
    """Somebody's leave to climb a rung that needs it: all weights, where the risk is high."""

    run: str
    rung: RungKind
    by: str
    reason: str

    @property
    def text(self) -> str:
        """A sentence, without its stop."""
        return f"{self.by} allowed the rung {self.rung.value}{f': {self.reason}' if self.reason else ', without a reason'}"


class Choice(StrEnum):
    """What was decided after a rung, or after a look at the sealed test that did not confirm its candidate; ``LOOK`` only then: another
    candidate that passes on dev is looked at."""

    STOP = "stop"
    CLIMB = "climb"
    REFUSE = "refuse"
    LOOK = "look"


class Climb(Value):
    """One rung's place in the record: what it made, how it did on dev, and what was decided, with the reason.

    ``process_memory_gb`` is the highest resident set of the whole process (GiB) while it was made and measured. The rest as in ``Making``.
    """

    rung: RungKind
    candidate: Digest
    variant: str
    trained_parameters: int
    evidence: Evidence
    gate: GateResult
    against_below: Comparison | None
    choice: Choice
    reason: str
    fit: Fit | None = None
    seconds: float
    peak_memory_gb: float
    money: float
    energy_kwh: float = 0.0
    process_memory_gb: float = 0.0
    reused: TrainingOrigin | None = None
    search: Digest | None = None

    @property
    def seconds_to_make(self) -> float:
        """The time to make the candidate, whichever run took it."""
        return self.seconds + (self.reused.seconds if self.reused else 0.0)

    @property
    def money_to_make(self) -> float:
        """The price of making the candidate, whichever run paid it."""
        return self.money + (self.reused.money if self.reused else 0.0)


class Refusal(Value):
    """A rung that was not tried, and why; ``failed``: it was, and broke off. ``remedy`` is what would let it be tried, where the budget
    does not."""

    rung: RungKind
    reason: str
    variant: str = ""
    failed: bool = False
    remedy: str = ""

    @property
    def name(self) -> str:
        """Rung and variant, as those that are tried are called."""
        return f"{self.rung.value} {self.variant}".rstrip()

    @property
    def verdict(self) -> str:
        """In place of a gate's verdict."""
        return "failed" if self.failed else "not tried"

    @property
    def sentence(self) -> str:
        """The rung, and what became of it."""
        return f"{self.name} {self.reason}" if self.failed else f"{self.name} not tried: {self.reason}"


class Ladder(Value):
    """The whole climb. ``chosen`` is the candidate that goes on to the sealed test; ``None`` when no rung is worth it. ``floor_is_rung``:
    the floor is the lowest rung, rather than a reference beside the ladder. ``on_shifted`` are comparisons of candidates that learned, in
    pairs on the shifted part of dev. ``compared_on`` is the metric in which rungs were compared.
    ``unconfirmed`` are candidates that the run looked at before on the sealed test, which did not confirm them."""

    floor: Climb | None
    climbs: tuple[Climb, ...]
    refused: tuple[Refusal, ...]
    chosen: Digest | None
    reason: str
    floor_is_rung: bool = False
    on_shifted: tuple[Comparison, ...] = ()
    compared_on: str
    unconfirmed: tuple[Digest, ...] = ()

    @property
    def measured(self) -> tuple[Climb, ...]:
        """Everything that has evidence: the floor, where there is one, and the rungs."""
        return (*((self.floor,) if self.floor else ()), *self.climbs)


class Measured(Value):
    """The floor's candidate with how it was made and its dev evidence: what the step ``floor`` leaves. ``choice`` is what was decided after
    it, and why, where it is the lowest rung; None where it is a reference."""

    candidate: Digest
    making: Digest
    evidence: Digest
    choice: Choice | None = None
    reason: str = ""


class SealedTest(Value):
    """What one look at the sealed test found for the chosen candidate: digests of the evidence and of the gate result; where it did not
    pass, the ``choice`` what to do next and its ``reason``."""

    candidate: Digest
    evidence: Digest
    gate: Digest
    look: int
    choice: Choice = Choice.STOP
    reason: str = ""

    @property
    def goes_on(self) -> bool:
        """True when the run goes on: with the next rung, or with another look."""
        return self.choice in (Choice.CLIMB, Choice.LOOK)


class Conclusion(Value):
    """How a run ended: the record of the climb, the sealed test (where a candidate was chosen) and the release it
    led to (where it passed)."""

    ladder: Digest
    test: Digest | None
    release: Digest | None
    reason: str
