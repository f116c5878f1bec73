"""Watches what is in production: drift of messages and answers, the service, the data pipeline, and which readings are worth an alert.

Values in, values out: a look is given what it needs, and knows no port.
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
