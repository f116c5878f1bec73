"""Errors as callers are told them: what only an operator can mend says so, and what the operator is to do goes into the log."""

from __future__ import annotations

import logging
from copy import copy

from tailorbird.domain.errors import TailorbirdError
from tailorbird.serving import NOT_ASKED, STOOD_IN_FOR

_log = logging.getLogger("tailorbird.serving")

#: Codes of errors of an engine whose hints are for whoever runs it; those of a hosted model are in ``STOOD_IN_FOR``.
_OF_ENGINES = frozenset({"engine_defect", "engine_secret", "engine_unavailable", "scope_untold"})
#: What a caller may do, by code; of the others nothing but wait.
_OTHER_WORDS = "ask in other words, or another model"
_HINTS = {"endpoint_answer_refused": _OTHER_WORDS, "endpoint_request": _OTHER_WORDS}
_LATER = "try again later; if it lasts, the operator of this server finds the reason in its log"


def for_caller(error: TailorbirdError) -> TailorbirdError:
    """The error with a hint for the caller of an API; the hint for the operator is logged in its place."""
    if error.error_code not in STOOD_IN_FOR | _OF_ENGINES:
        return error
    if error.error_code != NOT_ASKED:  # the log tells once of an endpoint that is not asked
        _log.warning("a caller was told of %s: %s (%s)", error.error_code, error.message, error.hint)
    told = copy(error)
    told.__dict__.update(error.__dict__, hint=_HINTS.get(error.error_code, _LATER))
    return told
