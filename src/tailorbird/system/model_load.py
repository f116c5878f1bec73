"""Lock under which models are built and read: one at a time in a process."""

from __future__ import annotations

import threading

#: While it reads a model, transformers replaces a method of the class of all its models (the one that ties weights) and torch's default
#: type; what silences it replaces stderr. Two threads that did so at once would leave the replacements in place for good: models whose
#: output heads hold random numbers, and a process without stderr.
model_load = threading.RLock()
