"""Verbosity of transformers: no progress bars or advice while it reads a model."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from typing import Any

from transformers.utils import logging as transformers_verbosity

from tailorbird.system.process import model_load

#: transformers leaves some of these functions untyped.
_logging: Any = transformers_verbosity


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing of transformers below an error is shown inside this block. Errors that are raised pass through.

    stderr is taken away as well, because the progress bar of the GGUF reader obeys no setting. One thread at a time is inside, for all of
    this belongs to the process.
    """
    with model_load:
        verbosity, bars = _logging.get_verbosity(), _logging.is_progress_bar_enabled()
        _logging.set_verbosity_error()
        _logging.disable_progress_bar()
        try:
            with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
                warnings.simplefilter("ignore")
                yield
        finally:
            _logging.set_verbosity(verbosity)
            if bars:
                _logging.enable_progress_bar()
