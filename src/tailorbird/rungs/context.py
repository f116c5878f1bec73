"""Context and result of a rung, and the validation split that rungs choose by, so that dev and test stay untouched by any choice."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.dataset import Document, Row
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.ladder import Candidate
from tailorbird.domain.objective import Objective
from tailorbird.domain.plan import RungPlan
from tailorbird.domain.prompt import Message, PromptSearch, Sampling
from tailorbird.domain.run import StoredTraining, TrainingProgress, TrainingReport
from tailorbird.domain.rung_wishes import EndpointWishes
from tailorbird.domain.scope import ScopeTrial
from tailorbird.domain.value import Digest
from tailorbird.ports.artifacts import ArtifactStore
from tailorbird.ports.encoder import Encoder
from tailorbird.ports.endpoint import HostedAnswer, KeepAnswer, keep_nothing
from tailorbird.ports.engine import Engine
from tailorbird.ports.trainer import Job, Trainer


class AskHosted(Protocol):
    """Asks the hosted model that the plan names."""

    def __call__(self, prompts: Sequence[Sequence[Message]], sampling: Sampling, keep: KeepAnswer = keep_nothing) -> list[HostedAnswer]:
        """One answer per prompt. ``keep`` is told each that came and is paid for, also where another one fails. Raises as asking does."""
        ...


@dataclass(frozen=True)
class ReusableTraining:
    """A finished training of another run whose files were just found whole in ``folder``, with its report."""

    stored: StoredTraining
    report: TrainingReport
    folder: Path


def _count_nothing(_done: int, _total: int) -> None:
    return None


def _nothing_reusable(_fingerprint: Digest, _job: Job) -> ReusableTraining | None:
    return None


@dataclass(frozen=True)
class RungContext:
    """Inputs and ports of a rung. ``workspace`` is a folder of this rung alone, where unfinished work survives a kill.

    A rung learns and chooses from ``train`` only; ``dev`` is where its candidate will be measured, and is here for rungs that must
    know what they may not show. ``documents`` are the tenant's, ``encoder_folder`` the encoder that the plan names. ``trainer``,
    ``engine`` and ``encoder`` open on first use. ``indexes`` is a folder of the tenant that remembers which indexes are stored.
    ``reusable`` finds a finished training by the fingerprint of a job. ``seal_key`` encrypts what is unfinished, and ``results`` is the
    folder for what was trained, in place of the workspace, where the workspace encrypts. ``ask_hosted`` asks the endpoint that the plan
    names, ``ask_proposer`` its proposer. ``count`` is told how much is done, and of how much.
    ``leaves_labels_out``: what tells requests out of scope is chosen on labels that are left out, for there are too few examples.
    """

    objective: Objective
    plan: RungPlan
    base: BaseModelRef
    base_folder: Path
    snapshot: Digest
    labels: tuple[str, ...]
    label_sets: tuple[str, ...]
    train: tuple[Row, ...]
    dev: tuple[Row, ...]
    documents: tuple[Document, ...]
    encoder_folder: Path | None
    encoder: Callable[[], Encoder]
    trainer: Callable[[], Trainer]
    engine: Callable[[], Engine]
    artifacts: ArtifactStore
    workspace: Path
    indexes: Path
    report: Callable[[TrainingProgress], None]
    progress: Callable[[str], None]
    seal_key: str = field(default="", repr=False)
    results: Path | None = None
    ask_hosted: AskHosted | None = None
    ask_proposer: AskHosted | None = None
    count: Callable[[int, int], None] = _count_nothing
    leaves_labels_out: bool = False
    reusable: Callable[[Digest, Job], ReusableTraining | None] = _nothing_reusable
    train_items: tuple[Row, ...] = ()

    @property
    def shown(self) -> tuple[Row, ...]:
        """What is shown to a model, and what a prompt is chosen by: ``train``, or each answer of its conversations where all count."""
        return self.train_items or self.train

    @property
    def proposer(self) -> EndpointWishes | None:
        """The hosted model that writes instructions where a prompt is searched: the one that the objective names for that, or the one that
        answers; None where the base model does."""
        if self.plan.proposer is None:
            return None
        return self.objective.prompt_search.proposer or self.objective.hosted


@dataclass(frozen=True)
class TrainedFiles:
    """What a training left: its files, stored as ``tree`` and lying in ``folder``, its report, the fingerprint of its job, the ``seconds``
    that it took here, and the training that it was ``reused`` from (None: it was done here)."""

    tree: Digest
    folder: Path
    report: TrainingReport
    fingerprint: Digest
    seconds: float
    reused: StoredTraining | None = None


@dataclass(frozen=True)
class RungResult:
    """A candidate, what making it took (seconds, GiB), and the training that it rests on where there was any, the log of a
    prompt's search, and how scorers of scope did on labels left out."""

    candidate: Candidate
    seconds: float
    peak_memory_gb: float = 0.0
    trained: TrainedFiles | None = None
    search: PromptSearch | None = None
    scope: ScopeTrial | None = None

    @property
    def training(self) -> TrainingReport | None:
        """The report of the training."""
        return self.trained.report if self.trained else None


#: Share of the rows that is held out.
SHARE = 0.10
#: What is held out chooses among a handful of checkpoints, rows paired: beyond this many, rows are left to learn from.
ENOUGH = 400


def hold_out(rows: Sequence[Row], seed: int, share: float = SHARE, enough: int = ENOUGH) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Splits ``rows`` into (to learn from, held out), by the hash of seed and group; the order of rows changes nothing.

    Groups are taken in the order of their hashes until ``share`` of the rows, or ``enough`` of them, is held out; one that would hold out
    more than twice that share, or leave less than half of the others, is passed over, unless all would. Raises DataInvalid when all rows
    are of one group.
    """
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.id):
        groups[row.group].append(row)
    if len(groups) < 2:
        raise DataInvalid(
            f"the {len(rows)} training rows are of one group, so none can be held out",
            "collect rows that are not near-duplicates, or of more than one subject",
            code="one_group",
        )
    order = sorted(groups, key=lambda group: hashlib.sha256(f"{seed}:{group}".encode()).digest())
    chosen = _choose(order, {group: len(members) for group, members in groups.items()}, share, enough)
    learn = tuple(row for group in order if group not in chosen for row in groups[group])
    return learn, tuple(row for group in order if group in chosen for row in groups[group])


def _choose(order: list[str], sizes: dict[str, int], share: float, enough: int) -> set[str]:
    chosen: set[str] = set()
    held, total = 0, sum(sizes.values())
    most = min(2 * share, (1 + share) / 2) * total
    for group in order:
        if held >= min(share * total, enough):
            break
        if held + sizes[group] <= max(1.0, most):
            chosen.add(group)
            held += sizes[group]
    return chosen or {min(order, key=lambda group: sizes[group])}
