"""Production monitoring: drift, service levels, data pipelines, and alerts.

In: request rows, feedback and source facts as values. Out: measurements against thresholds, signals, alert messages. Must not know:
ports, where values are stored, how a message is sent.

    drift, service, data_pipeline > thresholds > production_check > alerts
"""

from tailorbird.monitoring.alerts import QUIET_PERIOD, alert_message, alerts
from tailorbird.monitoring.data_pipeline import DataWatchInputs, SourceFacts
from tailorbird.monitoring.drift import DriftTest, class_drift, holm, length_drift, text_drift
from tailorbird.monitoring.production_check import Reference, WatchInputs, check_data, check_release, reference_of
from tailorbird.monitoring.service import Expectation
from tailorbird.monitoring.thresholds import ThresholdGuard, Thresholds

__all__ = [
    "QUIET_PERIOD",
    "DataWatchInputs",
    "DriftTest",
    "Expectation",
    "Reference",
    "SourceFacts",
    "ThresholdGuard",
    "Thresholds",
    "WatchInputs",
    "alert_message",
    "alerts",
    "check_data",
    "check_release",
    "class_drift",
    "holm",
    "length_drift",
    "reference_of",
    "text_drift",
]
