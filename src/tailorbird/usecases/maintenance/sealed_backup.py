"""Encrypted artifacts in a backup: copied as they lie there, without being decrypted; their keys, wrapped, are in the record."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tailorbird.domain.errors import Corrupt
from tailorbird.ports.artifacts import SealableStore, StoredFiles
from tailorbird.usecases.dependencies import Dependencies


def copy_sealed(deps: Dependencies, store: SealableStore) -> tuple[tuple[str, ...], int]:
    """Copies the files of every tenant's key into ``store``: each as ``SCOPE/NAME``, and how many were not there before."""
    if deps.sealed_files is None:
        return (), 0
    with deps.ledger.system(write=False) as system:
        tenants = list(system.tenants.all())
    found, new = list[str](), 0
    for tenant in tenants:
        with deps.ledger.work(tenant, write=False) as work:
            key = work.data_keys.get()
        if key is not None:
            names = [f"{key.scope}/{name}" for name in sorted(deps.sealed_files(key.scope).names())]
            new += _copied(names, deps.sealed_files, store.sealed_files)
            found += names
    return tuple(found), new


def restore_sealed(deps: Dependencies, store: SealableStore, files: Iterable[str]) -> None:
    """Copies what ``copy_sealed`` named from ``store`` back. Raises Corrupt where some of it is not there."""
    if deps.sealed_files is not None:
        _copied(files, store.sealed_files, deps.sealed_files)


def _copied(files: Iterable[str], source: Callable[[str], StoredFiles], target: Callable[[str], StoredFiles]) -> int:
    count = 0
    for scope, _, name in (file.partition("/") for file in files):
        there, size = target(scope), source(scope).size(name)
        if size is None:
            raise Corrupt(f"the encrypted file {name[:12]} is missing", "use another backup: nothing was restored", code="backup_corrupt")
        if there.size(name) != size:
            with source(scope).open(name) as stream:
                there.add(name, stream)
            count += 1
    return count
