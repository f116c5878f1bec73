"""The story, told through ports: adapt, approve, promote, roll back, explain, audit."""

from tailorbird.usecases.dependencies import Actor, Dependencies, MaintenanceSettings, Progress, StepBegun
from tailorbird.usecases.releases.load_verification import admit

__all__ = ["Actor", "Dependencies", "MaintenanceSettings", "Progress", "StepBegun", "admit"]
