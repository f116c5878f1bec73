"""Use cases by noun, over ports: runs, snapshots, erasure, releases, label reviews, rollouts, tenants, identities, feedback, audit."""

from tailorbird.usecases.dependencies import Actor, Dependencies, MaintenanceSettings, Progress, StepBegun
from tailorbird.usecases.releases.load_verification import admit

__all__ = ["Actor", "Dependencies", "MaintenanceSettings", "Progress", "StepBegun", "admit"]
