"""Tenant placeholder of an objective file, and its replacement by the tenant that the file is read for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tailorbird.objective.objective_file import Fault, YamlTree, nearest_line

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
