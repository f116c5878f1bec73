"""Objective file: YAML with the line of every key, and all its faults raised as one error.

PyYAML's node graph is walked here instead of its constructor, because only nodes know their lines. Nothing but plain data is ever built.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from tailorbird.domain.errors import ObjectiveInvalid
from tailorbird.domain.objective import Objective
from tailorbird.domain.value import Value

#: Where a hint sends somebody who needs to see a whole file.
EXAMPLE = "examples/support_desk/objective.yaml shows a whole objective"


#: Faults that are told at most, and characters of each: a file can be wrong in more places than anybody would read.
MOST_FAULTS, _LONGEST = 20, 400


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong at a 1-based line (0: no line is to blame), and what to do about it."""

    line: int
    message: str
    hint: str
    code: str = ObjectiveInvalid.code


def raise_faults(source: str, faults: Sequence[Fault]) -> None:
    """Raises ObjectiveInvalid with the first fault's line, hint and code, and the others below it; returns when there are none."""
    if not faults:
        return
    first, *others = sorted(faults, key=lambda fault: fault.line)
    told = others[: MOST_FAULTS - 1]
    lines = [_located(source, first)] + [f"{_located(source, fault)}: {shortened(fault.hint)}" for fault in told]
    if len(told) < len(others):
        lines.append(f"and {len(others) - len(told):,} more")
    raise ObjectiveInvalid("\n".join(lines), shortened(first.hint), code=first.code, line=first.line)


def _located(source: str, fault: Fault) -> str:
    place = f"{source}:{fault.line}" if fault.line else source
    return f"{place}: {shortened(fault.message)}"


def shortened(text: str) -> str:
    """``text``, cut where it is longer than a message should be."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


class ObjectiveFile(Value):
    """What was read. ``folder`` is where relative data paths start.

    ``lines`` maps a dotted key path (``kpis.0.target``) to the 1-based line of the key, and ``""`` to the line on which the
    document starts. ``source`` is the file's name as errors show it. ``for_tenants``: it is written for many tenants, and bound to one.
    """

    objective: Objective
    folder: str
    lines: dict[str, int]
    source: str = "objective.yaml"
    for_tenants: bool = False

    def line_of(self, path: str) -> int:
        """The line of ``path``, or of the nearest key above it that stands in the file; 0 when there is none."""
        return nearest_line(self.lines, path)


def nearest_line(lines: dict[str, int], path: str) -> int:
    """The line of ``path`` or of its nearest parent in ``lines``; the whole file is the parent named ``""``."""
    while path not in lines and path:
        path = path.rpartition(".")[0]
    return lines.get(path, 0)


#: An objective is about 50 nodes; aliases that expand beyond this are a bomb, not an objective.
MAX_NODES = 10_000
MAX_DEPTH = 32

#: Characters that a database does not keep: U+0000, and halves of surrogate pairs.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_LONG = 2**63

_PLAIN_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp"))


@dataclass
class YamlTree:
    """What was read. ``lines[""]`` is the line on which the document starts."""

    value: Any = None
    lines: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    nodes: int = 0


def read_tree(text: str, source: str) -> YamlTree:
    """The data in ``text``. Raises ObjectiveInvalid when it is no YAML, more than one document, too deep or too large."""
    tree = YamlTree()
    root = _compose(text, source)
    if root is not None:
        tree.value = _value(tree, root, "", source)
    return tree


class _Limited(yaml.SafeLoader):
    """Stops while it reads: a text that is too large to be an objective is not first made into a graph of all its nodes."""

    def __init__(self, text: str, source: str) -> None:
        super().__init__(text)
        self._source = source
        self._nodes = self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """As PyYAML's, counted. An alias counts as a node. Raises ObjectiveInvalid."""
        self._nodes, self._depth = self._nodes + 1, self._depth + 1
        if self._nodes > 2 * MAX_NODES or self._depth > MAX_DEPTH + 1:  # a key is a node too
            raise _too_much(self._source, int(self.line) + 1)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _compose(text: str, source: str) -> yaml.Node | None:
    try:
        loader = _Limited(text, source)
        try:
            node: yaml.Node | None = loader.get_single_node()
            return node
        finally:
            loader.dispose()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _invalid(source, line, "a character that YAML does not allow", "remove the control character from this line") from error
    except yaml.MarkedYAMLError as error:
        raise _malformed(source, error) from error
    except RecursionError as error:
        raise _too_much(source, 1) from error


def _malformed(source: str, error: yaml.MarkedYAMLError) -> ObjectiveInvalid:
    mark = error.problem_mark or error.context_mark
    problem = error.problem or "cannot be read"
    hint = "indent with spaces, close every bracket and quote, and put quotes around texts that hold ': ' or '#'"
    if "\\t" in problem:
        hint = "indent with spaces, not with tabs"
    elif "single document" in (error.context or ""):
        hint = "keep one document in one file: remove everything from the second '---' on"
    if mark and error.context_mark and error.context_mark.line < mark.line:
        problem += f", in what begins on line {error.context_mark.line + 1}"
    return _invalid(source, mark.line + 1 if mark else 1, f"malformed YAML: {problem}", hint)


def _invalid(source: str, line: int, message: str, hint: str) -> ObjectiveInvalid:
    return ObjectiveInvalid(f"{source}:{line}: {message}", hint, line=line)


def _too_much(source: str, line: int) -> ObjectiveInvalid:
    message = f"more than {MAX_NODES:,} values, or nested deeper than {MAX_DEPTH} levels"
    return _invalid(source, line, message, "no more than 5 levels are needed: write it out instead of nesting aliases")


def _value(tree: YamlTree, node: yaml.Node, path: str, source: str) -> Any:
    tree.nodes += 1
    line = node.start_mark.line + 1
    tree.lines.setdefault(path, line)
    if tree.nodes > MAX_NODES or path.count(".") >= MAX_DEPTH:
        raise _too_much(source, line)
    if node.tag not in _PLAIN_TAGS:
        tree.faults.append(Fault(line, f"the tag {node.tag!r} is not taken", "remove the tag: the file holds plain values only"))
        return None
    if isinstance(node, yaml.MappingNode):
        return {key: _value(tree, value, below, source) for key, value, below in _entries(tree, node, path)}
    if isinstance(node, yaml.SequenceNode):
        return [_value(tree, item, _join(path, str(index)), source) for index, item in enumerate(node.value)]
    if ":" in node.value and node.tag.endswith((":int", ":float")):
        hint = "write it as a plain number, or in quotes if a text is meant"
        tree.faults.append(Fault(line, f"{node.value} would be read as a number to the base of 60", hint))
        return None
    try:
        value = yaml.SafeLoader("").construct_object(node)
    except Exception:  # noqa: BLE001 - PyYAML's constructors raise whatever a forced tag leads to: IndexError, KeyError, OverflowError
        tree.faults.append(Fault(line, "not a date or number that can be read", "correct it, or put it in quotes if a text is meant"))
        return None
    if isinstance(value, float) and not math.isfinite(value):
        tree.faults.append(Fault(line, f"{node.value} is not a finite number", "write a finite number"))
        return None
    if isinstance(value, int) and not -_LONG <= value < _LONG:
        tree.faults.append(Fault(line, "a whole number of more than 64 bits", "write a smaller number, or put it in quotes"))
        return None
    if isinstance(value, str) and _UNSTORABLE.search(value):
        tree.faults.append(Fault(line, "a text with a null character or half a surrogate pair", "leave it out"))
        return None
    return value


def _entries(tree: YamlTree, node: yaml.MappingNode, path: str) -> Iterator[tuple[str, yaml.Node, str]]:
    """A mapping's (key, value, path of the value); keys that repeat or are not plain words become faults and are left out."""
    seen: dict[str, int] = {}
    for key_node, value in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            tree.faults.append(Fault(line, "a key must be a plain word", "remove the brackets or the '?' before the key"))
            continue
        key = str(key_node.value)
        if _UNSTORABLE.search(key):
            tree.faults.append(Fault(line, "a key with a null character or half a surrogate pair", "remove it"))
            continue
        if key in seen:
            tree.faults.append(Fault(line, f"key {key!r} stands here again; it was first given on line {seen[key]}", "keep one of the two"))
            continue
        seen[key] = line
        below = _join(path, key)
        tree.lines[below] = line
        yield key, value, below


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


#: Stands in a file for the name of the tenant that it is read for.
PLACEHOLDER = "{tenant}"
#: The code of rows or documents that one tenant would take from another.
SHARED_ROWS = "tenants_share_rows"

#: Keys whose values are names for all tenants alike.
_UNBOUND = frozenset({"name", "authors", "encoding"})
#: Keys of a source whose values say where its contents lie.
_PLACES = ("path", "qrels")


def bind_tenant(tree: YamlTree, tenant: str) -> bool:
    """Replaces the placeholder in every text of ``tree`` with ``tenant``; True where the file is for many tenants (``tenant: "{tenant}"``).

    In any other file the placeholder means nothing, and stays. Faults are added to the tree: no tenant to bind to; a source that all
    tenants would read without saying so.
    """
    root = tree.value
    if not isinstance(root, dict):
        return False
    if root.get("tenant") == {PLACEHOLDER[1:-1]: None}:
        tree.faults.append(
            Fault(tree.lines["tenant"], "`tenant` is a section here: braces begin one", 'write tenant: "{tenant}", in quotes')
        )
        root["tenant"] = PLACEHOLDER
    if root.get("tenant") != PLACEHOLDER:
        return False
    if not tenant:
        hint = "adapt for some of them: tailorbird adapt OBJECTIVE --tenants a,b,c; or read it for one tenant"
        tree.faults.append(Fault(tree.lines["tenant"], "the objective is for many tenants, and none is named", hint))
    tree.faults += _sharing_faults(root, tree.lines)
    tree.value = _bound(root, tenant)
    return True


def _sharing_faults(root: Mapping[str, Any], lines: dict[str, int]) -> Iterator[Fault]:
    """Sources without the placeholder that are not declared shared, and the other way round."""
    sources = list(_sources(root))
    for at, source in sources:
        shared, own = source.get("shared") is True, [key for key in _PLACES if PLACEHOLDER in str(source.get(key, ""))]
        if shared and own:
            yield _fault(lines, f"{at}.shared", "is true, and the place is a tenant's own", "remove one of the two")
        for key in () if shared else _PLACES:
            if source.get(key) and key not in own:
                hint = "write {tenant} into it, as in rows/{tenant}.csv; or add `shared: true` where it is meant for all of them"
                yield _fault(lines, f"{at}.{key}", "is the same for every tenant", hint)
    if sources and all(source.get("shared") is True for _, source in sources):
        hint = "write {tenant} into the path of what each tenant has of its own"
        yield _fault(lines, "data", "gives no tenant anything of its own", hint)


def _sources(root: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for section in ("data", "documents"):
        listed = root.get(section)
        for index, source in enumerate(listed if isinstance(listed, list) else ()):
            if isinstance(source, dict):
                yield f"{section}.{index}", source


def _fault(lines: dict[str, int], path: str, what: str, hint: str) -> Fault:
    return Fault(nearest_line(lines, path), f"`{path}` {what}", hint, SHARED_ROWS)


def _bound(value: Any, tenant: str) -> Any:
    if isinstance(value, str):
        return value.replace(PLACEHOLDER, tenant)
    if isinstance(value, list):
        return [_bound(item, tenant) for item in value]
    if isinstance(value, dict):
        return {key: item if key in _UNBOUND else _bound(item, tenant) for key, item in value.items()}
    return value
