"""Jinja environment of chat templates: sandboxed, bounded, with the tags and functions that transformers gives to them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache, wraps
from typing import Any

from jinja2 import Environment, Template, nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

#: What ``strftime_now`` gives: a prompt that changes from day to day would be neither the one that was learned nor the one that was
#: measured. Templates of Llama 3 write this date where no clock is given.
TEMPLATE_DATE = datetime(2024, 7, 26)
#: Stand before and after what the assistant says, in a rendering with marks.
MARKS = ("\U0010fff0", "\U0010fff1")
_MOST_LETTERS, _MOST_EXPONENT, _LONGEST_FORMAT = 10**6, 64, 100
_WIDE = re.compile(r"%[^a-zA-Z%]*(\d{5}|\*)")


class _GenerationBlocks(Extension):
    """``{% generation %}``, which frames what the assistant says: written as it is, or with ``MARKS`` around it."""

    tags = {"generation"}  # noqa: RUF012 (as jinja2 declares it)
    marked = False

    def parse(self, parser: Parser) -> nodes.Node:
        """The statements of the block, in a scope of their own."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        if self.marked:
            before, after = (nodes.Output([nodes.TemplateData(mark)]) for mark in MARKS)
            body = [before, *body, after]
        return nodes.Scope(body, lineno=line)


class _MarkedGenerationBlocks(_GenerationBlocks):
    marked = True


def parsed(template: str) -> nodes.Template:
    """The syntax tree of ``template``. Raises TemplateError."""
    return Environment(trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlocks, loopcontrols]).parse(template)


@lru_cache(maxsize=32)
def compiled(template: str, *, marked: bool = False) -> Template:
    """``template`` as a program; ``marked``: its generation blocks write ``MARKS``. Raises TemplateError."""
    blocks = _MarkedGenerationBlocks if marked else _GenerationBlocks
    environment = _Bounded(trim_blocks=True, lstrip_blocks=True, extensions=[blocks, loopcontrols])
    environment.filters["tojson"] = _as_json
    environment.filters = {name: _measured(each) for name, each in environment.filters.items()}
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _pinned_date
    return environment.from_string(template)


class _Bounded(ImmutableSandboxedEnvironment):
    """A sandbox in which nothing grows without bound at once: ``'x' * 10**9`` would take memory, ``9**9**9`` time."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """As the sandbox's. Raises SecurityError."""
        if not _is_small(left) or not _is_small(right) or (operator == "**" and right > _MOST_EXPONENT):
            raise SecurityError(f"an operand of {operator} is too large")
        if operator == "*" and _length(left) * _length(right) > _MOST_LETTERS:
            raise SecurityError("the product is too large")
        if operator == "%" and isinstance(left, str) and _WIDE.search(left):
            raise SecurityError("a field of the format is too wide")
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, called: Any, *given: Any, **named: Any) -> Any:
        """As the sandbox's: a width or a count is not beyond all measure. Raises SecurityError."""
        _refuse_large((*given, *named.values()))
        return super().call(context, called, *given, **named)


def _refuse_large(given: Sequence[Any]) -> None:
    if any(isinstance(each, int) and abs(each) > _MOST_LETTERS for each in given):
        raise SecurityError("an argument is too large")


def _measured(named: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that is given no width or count beyond all measure."""

    @wraps(named)
    def measured(*given: Any, **asked: Any) -> Any:
        _refuse_large((*given, *asked.values()))
        if any(isinstance(each, str) and _WIDE.search(each) for each in given[:1]) and named.__name__ == "do_format":
            raise SecurityError("a field of the format is too wide")
        return named(*given, **asked)

    return measured


def _is_small(operand: Any) -> bool:
    return not isinstance(operand, int) or operand.bit_length() <= 64


def _length(operand: Any) -> int:
    """How often the other operand may be repeated by it: itself, where it is a number."""
    if isinstance(operand, bool | float):
        return 1
    return min(abs(operand), 2**20) if isinstance(operand, int) else len(operand) if hasattr(operand, "__len__") else 1


def _refuse(message: str) -> Any:
    raise TemplateError(message)


def _pinned_date(form: str) -> str:
    if len(form) > _LONGEST_FORMAT or any(letter.isdigit() for letter in form):
        raise SecurityError("the format of a date is too long, or has a width")
    return TEMPLATE_DATE.strftime(form)


def _as_json(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: tuple[str, str] | None = None, sort_keys: bool = False
) -> str:
    """As transformers writes it: Jinja's own filter escapes letters of HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
