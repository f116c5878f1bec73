"""Run of an objective as leased steps, each finished once."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import Field

from tailorbird.domain.value import Digest, Name, Value

#: No lease is given for longer; clocks of workers may differ by what is left of it.
LONGEST_LEASE = timedelta(minutes=5)
#: A process that held a step for less was ended by something else (a machine that goes down, an update).
WORKED = timedelta(seconds=3)


class RunState(StrEnum):
    """Where a run stands. Workers take up ``PLANNING`` runs as far as the plan, and ``ACTIVE`` ones to the end; a ``PLANNED`` one spends
    nothing until somebody adapts. A run that is ``DONE`` has led to a release; one that was finished without is ``NO_RELEASE``.
    A ``WAITING`` one goes on once somebody has allowed its next rung."""

    PLANNING = "planning"
    PLANNED = "planned"
    ACTIVE = "active"
    WAITING = "waiting"
    DONE = "done"
    NO_RELEASE = "no_release"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def word(self) -> str:
        """As people read it: ``no release``."""
        return self.value.replace("_", " ")


#: Names of steps. Those of rungs, and of looks after the first, are made by ``usecases/runs/transitions.py``.
SNAPSHOT, PLAN, FLOOR, CHOOSE, TEST, CONCLUDE = "snapshot", "plan", "floor", "choose", "test", "conclude"


def step_folder(step: str) -> str:
    """The name of the folder with the working files of the step called ``step``."""
    return step.replace(" ", "-")


#: States of a run whose steps are all finished: nothing is left to do.
FINISHED = (RunState.DONE, RunState.NO_RELEASE)
#: States in which a run is worked on.
OPEN = (RunState.PLANNING, RunState.PLANNED, RunState.ACTIVE)


class Run(Value):
    """One climb of one objective over one set of data files. ``id`` is derived from ``fingerprint``.

    ``fingerprint`` covers the objective and the bytes of its data files: the same inputs are the same run, so
    starting it again goes on where it was. ``source`` names the text of the objective file. Its data lie in ``folder`` or, where the
    run was submitted from elsewhere, in the tree ``inputs``.
    """

    id: str
    tenant: Name
    objective_name: Name
    objective: Digest
    fingerprint: Digest
    folder: str
    created_by: Name
    created_at: datetime
    state: RunState = RunState.ACTIVE
    source: Digest
    inputs: Digest | None = None


class StepState(StrEnum):
    """``READY`` waits for a worker; ``LEASED`` is held by one; the rest are final."""

    READY = "ready"
    LEASED = "leased"
    DONE = "done"
    FAILED = "failed"


class TrainingProgress(Value):
    """A line of a training run's metrics. ``tokens`` counts all tokens so far, ``memory_gb`` the resident set in
    GiB; losses in nats per token. ``steps`` are all steps, with those that were ``added`` because the run had not begun to learn."""

    step: int
    steps: int
    loss: float
    held_out_loss: float | None
    learning_rate: float
    tokens: int
    tokens_per_second: float
    memory_gb: float
    seconds: float
    added: int = 0


class StepProgress(Value):
    """How far a step is, as its worker last told: a sentence, a count, and the last line of a training."""

    text: str = ""
    done: int = 0
    total: int = 0
    training: TrainingProgress | None = None


class Outlook(Value):
    """What a plan expects of a step from its beginning, and at most of the whole climb with it, in seconds; None where it does not say."""

    step: float | None = None
    climb: float | None = None


class Failure(Value):
    """Why a step failed: the error's code, what happened, and what to do next. Holds no text of a row."""

    code: str
    message: str
    hint: str


class Step(Value):
    """One unit of work of a run. ``name`` is unique in its run; ``result`` is the digest of the record it made (``None`` until done).

    ``error`` is the code with which it failed, ``message`` and ``hint`` what the error said; steps that failed before these were kept have
    none.

    ``deaths`` counts processes that ended in the middle of it, none of them further than the one before. ``paid`` is what all attempts at
    it have paid to endpoints, in the currency of the settings' prices, whatever came of them.
    """

    run: str
    tenant: Name
    name: str
    position: int
    state: StepState = StepState.READY
    owner: str | None = None
    lease_until: datetime | None = None
    attempts: int = 0
    result: Digest | None = None
    error: str | None = None
    message: str | None = None
    hint: str | None = None
    seconds: float = 0.0
    progress: StepProgress | None = None
    deaths: int = 0
    paid: float = 0.0


def results_of(steps: Iterable[Step]) -> dict[str, Digest]:
    """Finished steps by name, each with the digest of its result."""
    return {step.name: step.result for step in steps if step.state is StepState.DONE and step.result}


class TrainingPlateau(Value):
    """That a training stood still before it learned: at what knowing no more than how often each label is given costs or, where answers are
    texts, at the loss of the untrained model. In nats an answer: ``loss`` is the plateau's, ``held_out`` the best that was reached.

    ``waits`` are the steps after which it was found there and its rate kept up, for ``added`` steps in all; ``left`` is the step after
    which it was found to have left, None if it never did.
    """

    loss: float
    held_out: float
    waits: tuple[int, ...]
    added: int
    left: int | None


class TrainingOrigin(Value):
    """Where a training that was reused took place: the run, when it ended, and what it cost there (seconds, money in the objective's
    currency, energy in kWh)."""

    run: str
    at: datetime
    seconds: float
    money: float
    energy_kwh: float = 0.0


class StoredTraining(Value):
    """A finished training that a later run of the same tenant may reuse. ``fingerprint`` names everything that its bytes depend on
    (``ports/trainer.py``), ``tree`` the trained files, ``report`` the record of its report, ``snapshot`` what it learned from and ``rows``
    the rows artifact of that.

    ``waiting_epochs`` are the passes that might have been added while it had not begun to learn. The fingerprint leaves them out: a run
    that never waited is the same with any number of them.
    """

    fingerprint: Digest
    tree: Digest
    report: Digest
    snapshot: Digest
    rows: Digest
    waiting_epochs: int
    origin: TrainingOrigin


class TrainingReport(Value):
    """What a finished training run leaves beside its weights. ``best_step`` is the checkpoint that was kept.

    ``flops`` is the estimate actually spent. ``stopped_early`` is the step at which the held-out loss had risen beyond its interval twice
    in a row, in the second half of the run. ``grown_memory_gb`` is what the process
    grew by, from before the model was read to its highest (GiB). ``plateau`` is None where the run learned from the start.
    ``process_memory_gb`` is the highest resident set (GiB) of any process that ran the training: several may have.
    """

    settings: Digest
    snapshot: Digest
    base_model: Digest
    steps: int
    best_step: int
    best_held_out_loss: float
    first_held_out_loss: float
    history: tuple[TrainingProgress, ...]
    trained_parameters: int
    tokens: int
    loss_tokens: int
    seconds: float
    peak_memory_gb: float
    flops: float
    environment: dict[str, str]
    stopped_early: int | None = None
    grown_memory_gb: float = 0.0
    plateau: TrainingPlateau | None = None
    process_memory_gb: float = 0.0


class StepNeed(Value):
    """What one step takes of a node while it is done. ``memory_gb`` (GiB of the whole process) is 0 where no plan foresees it."""

    cores: int = Field(ge=1)
    memory_gb: float = Field(default=0.0, ge=0)
    gpus: int = Field(default=0, ge=0)

    @property
    def words(self) -> str:
        """As people read it: ``2 cores, 3.1 GiB``."""
        parts = [f"{self.cores} {'core' if self.cores == 1 else 'cores'}"]
        parts += [f"{self.memory_gb:.1f} GiB"] if self.memory_gb else []
        parts += [f"{self.gpus} {'GPU' if self.gpus == 1 else 'GPUs'}"] if self.gpus else []
        return ", ".join(parts)

    def holds(self, other: StepNeed) -> bool:
        """True where a process that has this can go on with what takes ``other``: by as many threads, and without a GPU."""
        return other.cores == self.cores and other.memory_gb <= self.memory_gb and not (other.gpus or self.gpus)


class ComputeNode(Value):
    """A living node: what it has in all, whoever uses it now (memory in GiB). ``here``: it is on this machine."""

    host: str
    cores: int
    memory_gb: float
    gpus: int = 0
    here: bool = False

    def holds(self, need: StepNeed) -> bool:
        """True when the step fits on the node while nothing else is done there."""
        return need.cores <= self.cores and need.memory_gb <= self.memory_gb and need.gpus <= self.gpus
