"""Where code can be changed so that it decides otherwise: the places of a module, and the module with one of them changed.

A place is an expression or statement of a function's body; what is typed, documented or raised as text is none.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
_COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}


@dataclass(frozen=True)
class Place:
    """The ``number``-th place of a module, and what would be changed there."""

    number: int
    line: int
    change: str


def places(source: str) -> list[Place]:
    """All of a module, in the order of the text."""
    return [Place(number, node.lineno, change) for number, (node, change) in enumerate(_changes(ast.parse(source)))]


def changed(source: str, number: int) -> str:
    """The module with the change of one place."""
    tree = ast.parse(source)
    for place, _ in enumerate(_changes(tree, number)):
        if place == number:
            return ast.unparse(ast.fix_missing_locations(tree))
    raise IndexError(number)


def _changes(tree: ast.Module, wanted: int = -1) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    """Each place; the tree is changed at the ``wanted`` one."""
    number = 0
    for node in list(_code(tree)):
        for change, apply in _of(node):
            if number == wanted:
                apply()
            yield node, change
            number += 1


def _code(node: ast.AST, *, inside: bool = False) -> Iterator[ast.expr | ast.stmt]:
    """Expressions and statements within functions, without annotations, docstrings and what is only raised."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_comment") or isinstance(node, ast.Raise):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST):
                continue
            within = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if within and isinstance(child, ast.expr | ast.stmt):
                yield child
            yield from _code(child, inside=within)


def _of(node: ast.expr | ast.stmt) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    match node:
        case ast.Compare(ops=[one, *_]) if type(one) in _COMPARED:
            other = _COMPARED[type(one)]
            found.append((f"{type(one).__name__} -> {other.__name__}", lambda: node.ops.__setitem__(0, other())))
        case ast.BoolOp(op=one):
            other_op: type[ast.boolop] = ast.Or if isinstance(one, ast.And) else ast.And
            found.append((f"{type(one).__name__} -> {other_op.__name__}", lambda: setattr(node, "op", other_op())))
        case ast.BinOp(op=one) if type(one) in _COMPUTED:
            operator = _COMPUTED[type(one)]
            found.append((f"{type(one).__name__} -> {operator.__name__}", lambda: setattr(node, "op", operator())))
        case ast.UnaryOp(op=ast.Not()):
            found.append(("not x -> x", lambda: _become(node, node.operand)))
        case ast.Constant(value=bool() as value):
            found.append((f"{value} -> {not value}", lambda: setattr(node, "value", not value)))
        case ast.Constant(value=int() | float() as value):
            found.append((f"{value} -> {value + 1}", lambda: setattr(node, "value", value + 1)))
        case ast.If() | ast.While() | ast.IfExp():
            found.append(("if x -> if not x", lambda: setattr(node, "test", ast.UnaryOp(ast.Not(), node.test))))
        case ast.Raise():
            found.append(("raise -> pass", lambda: _become(node, ast.Pass())))
        case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            found.append(("return x -> return None", lambda: setattr(node, "value", ast.Constant(None))))
        case ast.Expr(value=ast.Call()):
            found.append(("call -> pass", lambda: _become(node, ast.Pass())))
    return found


def _become(node: ast.AST, other: ast.AST) -> None:
    """``node`` turns into ``other`` where it stands."""
    made = copy.deepcopy(other)
    place = {name: getattr(node, name) for name in ("lineno", "col_offset", "end_lineno", "end_col_offset")}
    node.__class__ = made.__class__  # type: ignore[assignment]
    node.__dict__.clear()
    node.__dict__.update(made.__dict__ | place)
