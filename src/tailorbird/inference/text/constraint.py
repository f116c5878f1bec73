"""Answers that must fit a JSON schema: which tokens may come next.

In: a tokenizer, a schema. Out: a mask a step. The grammar is llguidance's (MIT, Rust); an engine without it refuses such requests. Must not
know: models, messages.
"""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

import numpy as np
import torch

from tailorbird.domain.errors import InvalidInput, Unavailable


class Constraint:
    """One answer's way through a grammar."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    def mask(self, logits_V: torch.Tensor) -> torch.Tensor:
        """``logits_V`` with minus infinity at every token that cannot come next."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        allowed = np.unpackbits(bits, bitorder="little", count=len(logits_V)).astype(bool)
        return logits_V.masked_fill(torch.from_numpy(~allowed).to(logits_V.device), float("-inf"))

    def take(self, token: int) -> None:
        """``token`` came."""
        self._matcher.consume_token(token)


class Grammars:
    """Compiles schemas for one tokenizer."""

    def __init__(self, tokenizer: Any, ends: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._ends = ends

    def constraint(self, schema: str) -> Constraint:
        """A fresh constraint. Raises InvalidInput for a schema that is none, Unavailable without llguidance."""
        library, reader = self._reader
        try:
            wanted = json.loads(schema)
            grammar = library.LLMatcher.grammar_from_json_schema(wanted or {"type": "object"})
            matcher = library.LLMatcher(reader, grammar, log_level=0)
        except (ValueError, TypeError) as error:
            raise _unusable() from error
        if matcher.is_error():
            raise _unusable()
        return Constraint(matcher)

    @cached_property
    def _reader(self) -> tuple[Any, Any]:
        """llguidance and its reading of the tokenizer."""
        try:
            import llguidance
        except ModuleNotFoundError as error:
            raise Unavailable(
                "answers in JSON need the package llguidance, which is not installed",
                "pip install 'tailorbird[local]'",
                code="package_missing",
            ) from error
        return llguidance, llguidance.LLTokenizer(self._tokenizer.backend_tokenizer.to_str(), eos_token=sorted(self._ends))


def _unusable() -> InvalidInput:
    return InvalidInput(
        "the JSON schema cannot be followed",
        "give a JSON schema of plain types, enums and objects",
        code="schema_invalid",
        param="response_format",
    )
