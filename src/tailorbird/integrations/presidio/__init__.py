"""Personal data found by Microsoft Presidio on this machine."""

from tailorbird.integrations.presidio.analyzer import PresidioAnalyzer, open_detector

__all__ = ["PresidioAnalyzer", "open_detector"]
