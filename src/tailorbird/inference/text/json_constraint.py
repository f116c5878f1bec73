"""Answers that must fit a JSON schema: which tokens may come next."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch

from tailorbird.domain.errors import InvalidInput, Unavailable

#: Characters of a schema at most. What a token costs grows with it, and is paid by whoever is computed beside it.
MOST_SCHEMA = 2**15


class Constraint:
    """One answer's way through a grammar. Its methods raise InvalidInput where the answer passes the limits of the grammar's library."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    def mask(self, logits_V: torch.Tensor) -> torch.Tensor:
        """``logits_V`` with minus infinity at every token that cannot come next."""
        bits = np.frombuffer(self._followed(self._matcher.compute_bitmask), np.uint8)
        allowed = np.unpackbits(bits, bitorder="little", count=len(logits_V)).astype(bool)
        if not allowed.any():
            raise _unusable()
        return logits_V.masked_fill(torch.from_numpy(~allowed).to(logits_V.device), float("-inf"))

    def take(self, token: int) -> None:
        """``token`` came."""
        self._followed(self._matcher.consume_token, token)

    def _followed(self, do: Callable[..., Any], *given: int) -> Any:
        """What ``do`` gives. A matcher that has passed its limits raises, or else allows only the end of the answer."""
        with _refused_as_schema():
            found = do(*given)
        if self._matcher.is_error():
            raise _unusable()
        return found


class Grammars:
    """Compiles schemas for one tokenizer."""

    def __init__(self, tokenizer: Any, ends: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._ends = ends

    def constraint(self, schema: str) -> Constraint:
        """A fresh constraint. Raises InvalidInput for a schema that is none, Unavailable without llguidance."""
        library, reader = self._reader
        if len(schema) > MOST_SCHEMA:
            raise InvalidInput(
                f"the JSON schema has more than {MOST_SCHEMA:,} characters",
                "shorten it: each token of the answer is checked against all of it",
                code="schema_too_large",
                param="response_format",
            )
        with _refused_as_schema():
            wanted = json.loads(schema)
            grammar = library.LLMatcher.grammar_from_json_schema(wanted or {"type": "object"})
            matcher = library.LLMatcher(reader, grammar, log_level=0)
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


@contextmanager
def _refused_as_schema() -> Iterator[None]:
    """Whatever the grammar's library raises is about the schema; a panic in Rust is not even an Exception."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise _unusable() from error


def _unusable() -> InvalidInput:
    return InvalidInput(
        "the JSON schema cannot be followed",
        "give a JSON schema of plain types, enums and objects",
        code="schema_invalid",
        param="response_format",
    )
