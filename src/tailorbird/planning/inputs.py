"""Inputs of a plan; two plans from equal inputs are equal."""

from __future__ import annotations

from dataclasses import dataclass

from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.domain.endpoint import Endpoint
from tailorbird.domain.objective import Objective
from tailorbird.domain.plan import (
    Calibration,
    Machine,
    PlannedComparison,
    PlannedRanker,
    Power,
    Prices,
    ShiftPower,
    TokenProfile,
    TrainingSettings,
)
from tailorbird.domain.value import Digest

#: Tokens of a passage of 120 words, about.
PASSAGE_TOKENS = 170
#: Tokens of a document that an encoder reads, where none were counted.
DOCUMENT_TOKENS = 200.0


@dataclass(frozen=True)
class PlanInputs:
    """Inputs of planning. ``tokens`` counts with the base model's tokenizer; ``machine`` carries measured rates;
    ``calibrations`` are timed steps of this machine, where there are any.
    ``encoder`` is the encoder that is installed, ``without_encoder`` why there is none, ``documents`` the number of the tenant's
    documents, ``document_tokens`` what an encoder reads of one for an index, on average, ``shift`` what the shifted part can prove,
    ``comparison`` in which metric candidates will be compared, ``ranker`` the release that finds passages, where the objective names one,
    ``endpoint`` the hosted model's."""

    objective: Objective
    objective_digest: Digest
    snapshot: Digest
    manifest: SnapshotManifest
    base: BaseModelRef
    machine: Machine
    tokens: TokenProfile
    prices: Prices
    dev_power: tuple[Power, ...]
    test_power: tuple[Power, ...]
    comparison: PlannedComparison
    calibrations: tuple[Calibration, ...] = ()
    encoder: BaseModelRef | None = None
    documents: int = 0
    document_tokens: float = DOCUMENT_TOKENS
    shift: tuple[ShiftPower, ...] = ()
    without_encoder: str = ""
    ranker: PlannedRanker | None = None
    endpoint: Endpoint | None = None

    @property
    def encoder_tree(self) -> Digest | None:
        """The files of the encoder that is installed."""
        return self.encoder.digest if self.encoder else None

    @property
    def train_rows(self) -> int:
        """Training rows, those held out included; examples of what is out of scope are none."""
        return self.manifest.learned_rows

    @property
    def dev_rows(self) -> int:
        """Items that a candidate answers on dev: rows, or more where each answer of a conversation is one."""
        return max([self.manifest.asked_rows, *(power.n for power in self.dev_power if self.manifest.answers != "last")])

    def timed(self, settings: TrainingSettings) -> Calibration | None:
        """The newest timed steps of the same method, precision and number of threads on this base model."""
        wanted = (self.base.digest, settings.method, settings.precision, settings.threads)
        fitting = [
            one
            for one in self.calibrations
            if (one.base_model, one.settings.method, one.settings.precision, one.settings.threads) == wanted
        ]
        return max(fitting, key=lambda one: one.measured_at, default=None)


def demonstration_tokens(inputs: PlanInputs) -> int:
    """Tokens that one demonstration adds, at the 95th percentile of texts."""
    return max(1, inputs.tokens.prompt_p95 - inputs.tokens.shared_prefix) + inputs.tokens.target_max
