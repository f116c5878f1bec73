"""Sends the metrics of trainings to an MLflow tracking server."""

from tailorbird.integrations.mlflow.tracker import open_tracker

__all__ = ["open_tracker"]
