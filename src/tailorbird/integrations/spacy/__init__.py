"""Names of people, places and organisations, found by a spaCy model on this machine."""

from tailorbird.integrations.spacy.names import LONGEST, SpacyNames, open_detector, pieces
from tailorbird.integrations.spacy.pipeline import installed_model, load_names

__all__ = ["LONGEST", "SpacyNames", "installed_model", "load_names", "open_detector", "pieces"]
