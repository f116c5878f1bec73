"""Writes the metrics of trainings as event files that TensorBoard shows."""

from tailorbird.integrations.tensorboard.tracker import open_tracker

__all__ = ["open_tracker"]
