"""Everything a plan rests on. Two plans from equal inputs are equal.

In: values of other rooms. Out: ``PlanInputs``. Must not know: any rule.
"""

from __future__ import annotations

from dataclasses import dataclass

from tailorbird.domain.base_model import BaseModelRef
from tailorbird.domain.dataset import SnapshotManifest
from tailorbird.domain.objective import Objective
from tailorbird.domain.plan import Machine, Power, Prices, TokenProfile
from tailorbird.domain.value import Digest


@dataclass(frozen=True)
class PlanInputs:
    """What planning is given. ``tokens`` counts with the base model's tokenizer; ``machine`` carries measured rates."""

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
