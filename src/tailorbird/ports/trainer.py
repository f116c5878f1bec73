"""The training room, seen from outside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from pydantic import Field

from tailorbird.domain.plan import Calibration, Examination, Machine, PassLayout, TrainingSettings
from tailorbird.domain.prompt import Entry, PromptSpec
from tailorbird.domain.run import TrainingProgress, TrainingReport
from tailorbird.domain.value import Digest, Value


class Example(Value):
    """One training pair: a user's text and the answer to learn; ``context`` is what was looked up for the text. With ``every_turn`` what
    the assistant said before, in a text that stands for a conversation, is learned like the answer, without ``calls`` all but its calls of
    functions."""

    text: str
    target: str
    context: tuple[Entry, ...] = ()
    every_turn: bool = False
    calls: bool = True


class TrainingJob(Value):
    """What to train. ``base`` is a local folder; ``workspace`` a folder of this job alone, where checkpoints and the result go.

    Digests name what the folder and the examples are, for the report. Checkpoints are encrypted by ``seal_key`` (32
    bytes in hexadecimal digits), and the result goes to ``results`` instead, where these are given.
    """

    base: Path
    base_digest: Digest
    snapshot: Digest
    settings: TrainingSettings
    prompt: PromptSpec
    train: tuple[Example, ...]
    held_out: tuple[Example, ...]
    workspace: Path
    seal_key: str = Field(default="", repr=False)
    results: Path | None = None


class JudgedQuery(Value):
    """A question and the documents that answer it, by id, with their grades."""

    text: str
    relevant: dict[str, float]


class RankingJob(Value):
    """An encoder to tune for questions. ``bi-encoder``: questions move towards the vectors of the documents that answer them;
    ``cross-encoder``: a question and a document are read together, and scored.

    ``index`` is a local folder with the documents and the vectors that ``base`` gave them (``text/search_index.py``), named by
    ``index_digest``. The result goes to ``results``, where that is given, else to the workspace.
    """

    kind: Literal["bi-encoder", "cross-encoder"]
    base: Path
    base_digest: Digest
    snapshot: Digest
    settings: TrainingSettings
    index: Path
    train: tuple[JudgedQuery, ...]
    held_out: tuple[JudgedQuery, ...]
    workspace: Path
    results: Path | None = None
    index_digest: Digest | None = None


class LabelledText(Value):
    """A text and the labels that it bears: one, or with several allowed any number."""

    text: str
    labels: tuple[str, ...]


class LabelJob(Value):
    """An encoder to tune so that texts of one label lie together, of all ``labels`` of the task. ``alone``: a text may bear several.

    With ``parts``, the part of each row of ``train`` (-1: of none), one encoder is tuned without each part, and their weights are averaged;
    nothing else is held out then. Finished ones lie in the workspace, encrypted by ``seal_key`` (32 bytes in hexadecimal digits) where it
    is given. The result goes to ``results``, where that is given, else to the workspace.
    """

    base: Path
    base_digest: Digest
    snapshot: Digest
    settings: TrainingSettings
    labels: tuple[str, ...]
    alone: bool
    train: tuple[LabelledText, ...]
    held_out: tuple[LabelledText, ...]
    workspace: Path
    parts: tuple[int, ...] = ()
    seal_key: str = Field(default="", repr=False)
    results: Path | None = None


#: What tunes an encoder, and whatever trains.
EncoderJob: TypeAlias = RankingJob | LabelJob
Job: TypeAlias = TrainingJob | EncoderJob


class TrainedModel(Value):
    """What training left: a folder with an adapter in PEFT format (lora) or full weights in Hugging Face form, and its report."""

    folder: Path
    report: TrainingReport


class MergeJob(Value):
    """What to merge: the ``adapter`` into its ``base``, both local folders, written to the empty folder ``target``.

    ``probes`` are put to both, behind ``prompt``, to compare them.
    """

    base: Path
    adapter: Path
    target: Path
    prompt: PromptSpec
    probes: tuple[Example, ...]


class Merged(Value):
    """How far the merged model's next-token distributions lie from those of base and adapter, in nats (KL divergence), over ``positions``
    tokens of the probes; and the type its weights are held in."""

    positions: int
    mean_kl: float
    max_kl: float
    dtype: str


#: Sees each step of a training run.
ReportProgress = Callable[[TrainingProgress], None]


class Trainer(Protocol):
    """Trains one candidate. The same job gives the same bytes on the same CPU and library versions."""

    def fingerprint(self, job: Job) -> Digest:
        """Names everything that the bytes which ``job`` gives here depend on: settings, prompt, rows, base model, code, libraries, the kind
        of device, and the number of processes and threads. Folders, the snapshot's name and ``waiting_epochs`` are left out.
        """
        ...

    def train(self, job: TrainingJob, report: ReportProgress) -> TrainedModel:
        """Runs the job to its end, calling ``report`` after steps. Raises InvalidInput (a row that does not fit), Exhausted (memory)."""
        ...

    def tune(self, job: EncoderJob, report: ReportProgress) -> TrainedModel:
        """Tunes an encoder: an adapter in PEFT format, whole weights, or for a cross-encoder weights with a head.

        Raises InvalidInput (``no_train_rows``), Exhausted
        (``disk_full``).
        """
        ...

    def examine(self, job: TrainingJob) -> Examination:
        """Looks for what would go wrong with the job, in seconds; trains nothing, writes nothing. What is wrong is found, not raised."""
        ...

    def merge(self, job: MergeJob) -> Merged:
        """Writes one model that needs no adapter, in Hugging Face form, and compares it with base and adapter.

        Raises ModelInvalid (the adapter does not fit the base), Corrupt (the two answer differently).
        """
        ...

    def measure_machine(self) -> Machine:
        """Measures this machine: cores, memory, GPUs, matmul rates. Takes about a second."""
        ...

    def row_layout(self, source: Path, longest: int) -> PassLayout:
        """How a training lays out rows of at most ``longest`` tokens, as proven on the architecture of the folder or config file
        ``source``. Takes seconds."""
        ...

    def calibrate(self, job: TrainingJob, machine: str, efficiency: float = 0.0) -> Calibration:
        """Times a few steps of the job on this machine, named ``machine``, and throws away what they learned. Takes about a minute at most.

        Seconds are those of a quiet machine, also where it is not; ``efficiency`` is what an earlier quiet timing of it found (0: none).
        Raises InvalidInput and Exhausted as ``train``.
        """
        ...
