"""The story, told through ports: adapt, approve, promote, roll back, explain, audit."""

from tailorbird.lifecycle.admission import admit
from tailorbird.lifecycle.parts import Actor, Parts, Progress, Upkeep

__all__ = ["Actor", "Parts", "Progress", "Upkeep", "admit"]
