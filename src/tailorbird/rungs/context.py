"""What every rung is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.dataset import Document, Row
from tailorbird.domain.ladder import Candidate
from tailorbird.domain.objective import Objective
from tailorbird.domain.plan import RungPlan
from tailorbird.domain.run import TrainingProgress, TrainingReport
from tailorbird.domain.value import Digest
from tailorbird.ports.artifacts import ArtifactStore
from tailorbird.ports.encoder import Encoder
from tailorbird.ports.engine import Engine
from tailorbird.ports.trainer import Trainer


@dataclass(frozen=True)
class RungContext:
    """What a rung works with. ``workspace`` is a folder of this rung alone, where unfinished work survives a kill.

    A rung learns and chooses from ``train`` only; ``dev`` is where its candidate will be measured, and is here for rungs that must
    know what they may not show. ``documents`` are the tenant's, ``encoder_folder`` the encoder that the plan names. ``trainer``,
    ``engine`` and ``encoder`` open on first use. ``fork`` names the run whose training may be gone on with.
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
    report: Callable[[TrainingProgress], None]
    progress: Callable[[str], None]
    fork: str = ""


@dataclass(frozen=True)
class RungResult:
    """A candidate, what making it took (seconds, GiB), and the report of its training where there was any."""

    candidate: Candidate
    seconds: float
    peak_memory_gb: float = 0.0
    training: TrainingReport | None = None
