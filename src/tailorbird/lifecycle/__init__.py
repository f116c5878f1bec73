"""The story, told through ports: adapt, approve, promote, roll back, explain, audit."""

from tailorbird.lifecycle.parts import Actor, Parts, Progress, StepBegun, Upkeep
from tailorbird.lifecycle.releasing.admission import admit

__all__ = ["Actor", "Parts", "Progress", "StepBegun", "Upkeep", "admit"]
