"""Chat templates that do no more than lay a conversation out: what they take is in proportion to it.

A plain template loops over the messages, once after the other and never within a loop; in a loop it puts together what the message at hand
says, and nothing that holds all of them; what it has put together it does not put together again; it calls nothing but what cuts a text.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import lru_cache

from jinja2 import nodes
from jinja2.exceptions import TemplateError

from tailorbird.text.template_environment import parsed

#: Letters of a plain template, loops, and values that it writes.
_LONGEST, _LOOPS, _WRITTEN = 4_000, 4, 64
_FILTERS = ("trim", "upper", "lower", "default", "d")
_METHODS = ("strip", "lstrip", "rstrip", "startswith", "endswith")
_TESTS = ("defined", "undefined", "none", "string", "mapping", "sequence", "iterable", "true", "false", "boolean", "even", "odd", "equalto")
_ALL = "messages"


@lru_cache(maxsize=64)
def is_plain(template: str) -> bool:
    """True where ``template`` is known to take memory and time in proportion to the conversation."""
    if len(template) > _LONGEST:
        return False
    try:
        reader = _Reader()
        return reader.accepts(parsed(template).body) and reader.written <= _WRITTEN and reader.loops <= _LOOPS
    except (TemplateError, RecursionError):
        return False


@dataclass
class _Reader:
    """Reads statements in order. ``lists`` are names of messages, ``held`` those, tools, and what was taken from them, ``made`` what was
    put together, with the number of values in it."""

    lists: set[str] = field(default_factory=lambda: {_ALL})
    held: set[str] = field(default_factory=lambda: {_ALL, "tools"})
    made: dict[str, int] = field(default_factory=dict)
    written: int = 0
    loops: int = 0
    target: str = ""

    def accepts(self, statements: Iterable[nodes.Node]) -> bool:
        return all(self._statement(each) for each in statements)

    def _statement(self, node: nodes.Node) -> bool:
        if isinstance(node, nodes.Output):
            return all(isinstance(each, nodes.TemplateData) or self._written(each) for each in node.nodes)
        if isinstance(node, nodes.If):
            return self._expression(node.test) and self.accepts([*node.body, *node.elif_, *node.else_])
        if isinstance(node, nodes.For):
            return self._loop(node)
        if isinstance(node, nodes.Assign):
            return self._assigned(node)
        return isinstance(node, nodes.ExprStmt) and self._expression(node.node)

    def _written(self, node: nodes.Node) -> bool:
        """What is written in a loop says nothing of all messages."""
        self.written += self._values(node)
        return self._expression(node) and (not self.target or not self._mentions(node, self.held))

    def _loop(self, node: nodes.For) -> bool:
        if self.target or not isinstance(node.target, nodes.Name) or node.recursive or not self._is_messages(node.iter):
            return False
        self.loops += 1
        self.target = node.target.name
        fine = self.target not in self.held and (node.test is None or self._expression(node.test)) and self.accepts(node.body)
        self.target = ""
        return fine and self.accepts(node.else_)

    def _is_messages(self, node: nodes.Node) -> bool:
        """``messages``, a name of it, or a slice."""
        if isinstance(node, nodes.Getitem):
            return isinstance(node.arg, nodes.Slice) and self._is_messages(node.node) and self._expression(node.arg)
        return isinstance(node, nodes.Name) and node.name in self.lists

    def _assigned(self, node: nodes.Assign) -> bool:
        """A name for messages, for a part of one, or for a text that is put together from what was not."""
        if not isinstance(node.target, nodes.Name) or not self._expression(node.node):
            return False
        name = node.target.name
        if self._is_messages(node.node):
            if self.target:
                return False
            self.lists.add(name)
            self.held.add(name)
            return True
        if name in self.lists or name == self.target or (self._grows(node.node) and self._mentions(node.node, self.made)):
            return False
        if self._grows(node.node) or self._mentions(node.node, self.made):
            self.made[name] = max(self.made.get(name, 0), self._values(node.node))
        if self._mentions(node.node, self.held):
            self.held.add(name)
        return True

    def _values(self, node: nodes.Node) -> int:
        return sum(self.made.get(name, 1) for name in _names(node))

    def _mentions(self, node: nodes.Node, names: Collection[str]) -> bool:
        return any(name in names for name in _names(node))

    def _grows(self, node: nodes.Node) -> bool:
        return isinstance(node, nodes.Add | nodes.Concat) or any(node.find(kind) is not None for kind in (nodes.Add, nodes.Concat))

    def _expression(self, node: nodes.Node | None) -> bool:
        """Only what cuts, compares, or puts together."""
        if node is None or isinstance(node, nodes.Const | nodes.Name):
            return True
        check = _CHECKS.get(type(node))
        return check is not None and check(node) and all(map(self._expression, node.iter_child_nodes()))


def _names(node: nodes.Node) -> list[str]:
    return [node.name] if isinstance(node, nodes.Name) else [each.name for each in node.find_all(nodes.Name)]


def _named(node: nodes.Node, names: tuple[str, ...]) -> bool:
    return getattr(node, "name", "") in names


def _is_call(node: nodes.Node) -> bool:
    """``raise_exception(...)``, or a method that cuts or compares a text."""
    called = getattr(node, "node", None)
    if isinstance(called, nodes.Name):
        return called.name == "raise_exception"
    return isinstance(called, nodes.Getattr) and called.attr in _METHODS


def _any(_: nodes.Node) -> bool:
    return True


_CHECKS: dict[type[nodes.Node], Callable[[nodes.Node], bool]] = {
    nodes.Getattr: lambda node: not getattr(node, "attr", "_").startswith("_"),
    nodes.Getitem: _any,
    nodes.Slice: _any,
    nodes.Compare: _any,
    nodes.Operand: _any,
    nodes.And: _any,
    nodes.Or: _any,
    nodes.Not: _any,
    nodes.Neg: _any,
    nodes.CondExpr: _any,
    nodes.Add: _any,
    nodes.Sub: _any,
    nodes.Concat: _any,
    nodes.Keyword: _any,
    nodes.Filter: lambda node: _named(node, _FILTERS),
    nodes.Test: lambda node: _named(node, _TESTS),
    nodes.Call: _is_call,
}
