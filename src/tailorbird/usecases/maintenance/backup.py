"""Backup of a workspace while its servers run, and restore into another.

A place for backups is a folder: ``artifacts/`` holds what any of them names, once; beside it stands one folder a backup, named by its
time, with ``ledger/``, ``settings.yaml``, ``keys/`` where they were wanted, and ``manifest.json``. It is built under another name and
renamed when it is whole. A backup begins with a signed checkpoint of the log and holds it: what was cut off or changed since then shows.
The key of the log signs the manifest: who knows that key sees whether the backup is of that workspace.

The record is copied first and the artifacts after it: whatever a row names was stored before the row was, so it is there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal
from uuid import uuid4

from pydantic import ValidationError

from tailorbird.auth import Action, sign
from tailorbird.auth.signing import holds
from tailorbird.crypto.canonical_json import canonical_json, digest_bytes, short
from tailorbird.domain.errors import Conflict, Corrupt, Forbidden, InvalidInput, NotFound, TailorbirdError, Unavailable
from tailorbird.domain.event import Checkpoint, Event
from tailorbird.domain.identity import Signature
from tailorbird.domain.value import Digest, Value
from tailorbird.ports.artifacts import ArtifactStore, SealableStore, StoredFiles
from tailorbird.system.build import build_name
from tailorbird.system.files import OWNER_FILE, clear_stale, digest_file, flush, flush_path, is_open_to_others, locked, private_folder
from tailorbird.usecases.audit_events import Facts, record
from tailorbird.usecases.dependencies import Actor, Dependencies, Progress
from tailorbird.usecases.maintenance.audit import check_log, log_key, log_public_key, make_checkpoint
from tailorbird.usecases.registry import local

_MANIFEST, _SETTINGS, _LEDGER, _KEYS = "manifest.json", "settings.yaml", "ledger", "keys"
#: The signature of the manifest by the key of the log, beside it; and the purpose that is signed for.
_SIGNATURE, _PURPOSE = "manifest.sig.json", "backup"
_UNFINISHED = ".unfinished-"
#: The file that backups in one place hold: all of them together, or one that prunes alone.
_LOCK = "backup.lock"


class BackupManifest(Value):
    """Manifest of a backup. ``files`` are those beside the manifest, by relative path; ``log_key`` checks the notes in the log
    (base64). ``sealed`` are encrypted artifacts, as ``SCOPE/NAME``: who holds the workspace's key can read them."""

    format: Literal[1]
    version: str
    made_at: datetime
    log_size: int
    log_root: str
    log_key: str
    rows: dict[str, int]
    files: dict[str, Digest]
    artifacts: tuple[Digest, ...]
    with_keys: bool
    sealed: tuple[str, ...] = ()


class Backup(Value):
    """A finished backup. ``digest`` is that of its manifest, and so names everything in it; ``new`` artifacts were not there before;
    ``log_key`` is the public key (base64) that signed it. ``pruned`` counts artifacts that no backup in the place named any more;
    ``unpruned`` says why nothing was, though it was asked for."""

    folder: str
    digest: Digest
    rows: int
    artifacts: int
    new: int
    log_size: int
    log_key: str
    with_keys: bool
    pruned: int = 0
    unpruned: str = ""


class RestoredWorkspace(Value):
    """Verified content of a restored workspace."""

    digest: Digest
    made_at: datetime
    rows: int
    artifacts: int
    log_size: int
    with_keys: bool


@dataclass(frozen=True)
class FoundBackup:
    """A backup whose files are all there and unchanged. Its artifacts are checked when they are copied. ``signed``: by the key of its log;
    backups of earlier versions are not."""

    folder: Path
    digest: Digest
    manifest: BackupManifest
    signed: bool = False

    @property
    def settings(self) -> bytes:
        """The settings, as they were given to ``back_up``."""
        return (self.folder / _SETTINGS).read_bytes()


@dataclass(frozen=True)
class BackupTarget:
    """Target of a backup: the folder, and the store in its ``artifacts/``. ``settings`` is the text to keep with it. ``prune``: what no
    backup in it names any more is deleted."""

    folder: Path
    store: SealableStore
    settings: bytes
    with_keys: bool = False
    prune: bool = False


@local(Action.BACK_UP)
def back_up(deps: Dependencies, actor: Actor, target: BackupTarget, progress: Progress) -> Backup:
    """Copies record and artifacts while others write. Raises Forbidden, InvalidInput (inside the workspace, or what is to be pruned is
    one), Unavailable, Corrupt, Conflict (another is being made there, and one of them prunes)."""
    if target.folder.resolve().is_relative_to(deps.workspace.resolve()):
        raise InvalidInput("a backup inside the workspace is lost with it", "name a folder on another disk", code="backup_inside")
    if target.prune and (target.folder / _SETTINGS).exists():
        hint = "name the folder in which the folders of backups lie"
        raise InvalidInput("this is a workspace or one backup, and no place of backups to be pruned", hint, code="backup_place")
    demand_undamaged(deps)
    with _entered(target.folder, alone=target.prune) as is_held:
        checkpoint = make_checkpoint(deps, actor)
        name = f"{deps.clock.now():%Y-%m-%dT%H%M%SZ}"
        with _storage(target.folder), _built(target.folder, name) as folder:
            rows = deps.ledger.dump(folder / _LEDGER)
            artifacts, new = _copy_artifacts(deps, target.store, progress)
            sealed, more = copy_sealed(deps, target.store)
            _write(folder / _SETTINGS, target.settings)
            if target.with_keys:
                _copy_keys(deps.workspace / _KEYS, folder / _KEYS)
            manifest = _manifest(deps, checkpoint, folder, rows, artifacts).model_copy(update={"sealed": sealed})
            digest = digest_bytes(canonical_json(manifest))
            _write(folder / _MANIFEST, canonical_json(manifest))
            _write(folder / _SIGNATURE, canonical_json(sign(log_key(deps), "log", _PURPOSE, digest, manifest.made_at)))
        pruned, unpruned = _pruned(target, is_held=is_held) if target.prune else (0, "")
    with deps.ledger.work(actor.tenant) as work:
        facts: Facts = {"artifacts": len(artifacts), "with_keys": target.with_keys, "log_size": checkpoint.size}
        facts |= {"pruned": pruned} if target.prune else {}
        record(work, "workspace.backed_up", actor.name, digest, deps.clock.now(), facts)
    return Backup(
        folder=str(target.folder / name),
        digest=digest,
        rows=sum(rows.values()),
        artifacts=len(artifacts) + len(sealed),
        new=new + more,
        log_size=checkpoint.size,
        log_key=manifest.log_key,
        with_keys=target.with_keys,
        pruned=pruned,
        unpruned=unpruned,
    )


@contextmanager
def _entered(place: Path, *, alone: bool) -> Iterator[bool]:
    """The place while backups there come and go, or ``alone``: what one prunes another may be about to name. False where its file system
    has no locks. Raises Conflict, Unavailable."""
    with ExitStack() as stack:
        with _storage(place):
            private_folder(place)
            held = stack.enter_context(locked(place / _LOCK, shared=not alone))
        if held is False:
            raise Conflict("another backup is being made in this place", "run it again once that one has ended", code="backup_under_way")
        yield bool(held)


def _pruned(target: BackupTarget, *, is_held: bool) -> tuple[int, str]:
    """How many artifacts are deleted; or why none are: a backup that is made counts all the same."""
    if not is_held:
        return 0, "the file system of this place has no locks, and another backup might be under way there"
    try:
        return _prune(target), ""
    except TailorbirdError as error:
        return 0, error.message


def _prune(target: BackupTarget) -> int:
    """Deletes artifacts that no backup in the place names, whatever its folder is called, as those of backups whose folders were deleted;
    how many. Raises Conflict, Corrupt, Unavailable."""
    with _storage(target.folder):
        if any(target.folder.glob(f"{_UNFINISHED}*")):
            raise Conflict(
                "a backup was begun there within the last day and has not ended", "prune with a later one", code="backup_under_way"
            )
        texts = [file.read_bytes() for file in sorted(target.folder.glob(f"*/{_MANIFEST}"))]
    try:
        manifests = [BackupManifest.model_validate_json(text) for text in texts]
    except ValidationError:
        what, hint = (
            "the manifest of a backup there cannot be read: it is not known what it names",
            "delete that backup's folder, or mend it",
        )
        raise Corrupt(what, hint, code="backup_corrupt") from None
    named = {digest for manifest in manifests for digest in manifest.artifacts}
    gone = sum(target.store.destroy(digest) for digest in sorted(set(target.store.digests()) - named))
    sealed = {file for manifest in manifests for file in manifest.sealed}
    for scope in {file.partition("/")[0] for file in sealed}:
        files = target.store.sealed_files(scope)
        gone += sum(files.remove(name) for name in list(files.names()) if f"{scope}/{name}" not in sealed)
    return gone


def demand_undamaged(deps: Dependencies) -> None:
    """Raises Corrupt where the database's file is damaged: what is written into it, or copied from it, would be lost."""
    damages = deps.ledger.damages()
    if damages:
        raise Corrupt(
            f"the database is damaged: {'; '.join(damages[:3])}",
            "stop every process of this workspace, keep a copy of the file, and restore the newest backup: tailorbird restore",
            code="database_damaged",
        )


def find_backup(source: Path, expected: Digest | None = None, trusted: str = "") -> FoundBackup:
    """The backup at ``source``, or the newest below it, every file checked against the manifest.

    ``trusted`` is the public key (base64) of the log that it must be signed by. Raises NotFound, and Corrupt: a file is missing, changed or
    unknown, the manifest does not have the ``expected`` digest, or is not signed by the trusted key.
    """
    whole = [path for path in (source, *sorted(source.glob("[0-9]*"), reverse=True)) if (path / _MANIFEST).is_file()]
    if not whole:
        raise NotFound(f"there is no backup in {source}", "name the folder that tailorbird backup was given", code="backup_missing")
    folder = whole[0]
    with _storage(folder):
        text = (folder / _MANIFEST).read_bytes()
        try:
            manifest = BackupManifest.model_validate_json(text)
        except ValidationError:
            raise _corrupt("its manifest cannot be read") from None
        if expected is not None and digest_bytes(text) != expected:
            raise _corrupt(f"its manifest is not {short(expected)}")
        if _digests(folder) != manifest.files:
            raise _corrupt("its files are not those that the manifest names")
        signed = _is_signed(folder, manifest.log_key, digest_bytes(text))
    if trusted and not (signed and manifest.log_key == trusted):
        what = f"is signed by another key ({manifest.log_key})" if signed else "is not signed"
        raise Corrupt(
            f"the backup {what}, and not by the key that is trusted",
            "use a backup of the workspace whose key you trust: tailorbird backup tells it, and it stands in keys/log.pub",
            code="backup_untrusted",
        )
    return FoundBackup(folder, digest_bytes(text), manifest, signed)


def _is_signed(folder: Path, key: str, digest: Digest) -> bool:
    """True where the key that the manifest names signed it, False without a signature. Raises Corrupt for one that does not hold."""
    file = folder / _SIGNATURE
    if not file.exists():
        return False
    try:
        signature = Signature.model_validate_json(file.read_bytes())
    except ValidationError:
        raise _corrupt("the signature of its manifest cannot be read") from None
    if not holds(signature, key, _PURPOSE, digest):
        raise _corrupt("the signature of its manifest does not hold")
    return True


def artifacts_of(found: FoundBackup) -> Path:
    """The folder with the artifacts of a backup."""
    return found.folder.parent / "artifacts"


def restore(deps: Dependencies, found: FoundBackup, store: SealableStore, progress: Progress) -> RestoredWorkspace:
    """Fills the new workspace of ``deps`` from a backup and its artifact ``store``, and verifies it.

    Raises Conflict (something is there), Corrupt (an artifact, a row or the log is not what was backed up), NotFound, Unavailable.
    """
    manifest = found.manifest
    rows = deps.ledger.restore(found.folder / _LEDGER)
    for number, digest in enumerate(manifest.artifacts, 1):
        store.copy(digest, deps.artifacts)
        progress.count(number, len(manifest.artifacts))
    restore_sealed(deps, store, manifest.sealed)
    with _storage(deps.workspace):
        if manifest.with_keys:
            _copy_keys(found.folder / _KEYS, deps.workspace / _KEYS)
        else:
            _write(deps.workspace / _KEYS / "log.pub", f"{manifest.log_key}\n".encode())
    _verify(deps, manifest)
    _record_restored(deps, found)
    return RestoredWorkspace(
        digest=found.digest,
        made_at=manifest.made_at,
        rows=sum(rows.values()),
        artifacts=len(manifest.artifacts) + len(manifest.sealed),
        log_size=manifest.log_size,
        with_keys=manifest.with_keys,
    )


def _copy_artifacts(deps: Dependencies, store: ArtifactStore, progress: Progress) -> tuple[tuple[Digest, ...], int]:
    """All digests, and how many were not in ``store`` before."""
    found, new = sorted(deps.artifacts.digests()), 0
    for number, digest in enumerate(found, 1):
        new += deps.artifacts.copy(digest, store)
        progress.count(number, len(found))
    return tuple(found), new


def _manifest(
    deps: Dependencies, checkpoint: Checkpoint, folder: Path, rows: dict[str, int], artifacts: tuple[Digest, ...]
) -> BackupManifest:
    return BackupManifest(
        format=1,
        version=build_name(),
        made_at=checkpoint.at,
        log_size=checkpoint.size,
        log_root=checkpoint.root,
        log_key=log_public_key(deps),
        rows=rows,
        files=_digests(folder),
        artifacts=artifacts,
        with_keys=(folder / _KEYS).is_dir(),
    )


def _verify(deps: Dependencies, manifest: BackupManifest) -> None:
    """The log is whole, its notes are signed, and the checkpoint that the backup began with is one of them. Raises Corrupt."""
    if log_public_key(deps) != manifest.log_key:
        raise _corrupt("its key of the log is another one")
    report = check_log(deps)
    if report.problems:
        raise _corrupt(f"its log does not verify: {report.problems[0]}")
    with deps.ledger.system(write=False) as system:
        heads = {(checkpoint.size, checkpoint.root) for checkpoint in system.events.checkpoints()}
    if (manifest.log_size, manifest.log_root) not in heads:
        raise _corrupt("its log lacks the checkpoint that the backup began with")


def _record_restored(deps: Dependencies, found: FoundBackup) -> None:
    """From here on this log and the one that was backed up may differ: both say why."""
    now, facts = deps.clock.now(), {"log_size": found.manifest.log_size}
    with deps.ledger.system() as system:
        tenants = list(system.tenants.all())
        kind, subject = "workspace.restored", found.digest
        system.events.append([Event(kind=kind, tenant=name, actor="restore", subject=subject, at=now, data={**facts}) for name in tenants])


@contextmanager
def _built(place: Path, name: str) -> Iterator[Path]:
    """A folder below ``place`` that is called ``name`` only if the block ends well. Raises Conflict when that is taken."""
    private_folder(place)
    clear_stale(place.glob(f"{_UNFINISHED}*"))
    unfinished = place / f"{_UNFINISHED}{uuid4().hex}"
    private_folder(unfinished)
    try:
        yield unfinished
        if (place / name).exists():
            raise Conflict(f"a backup {name} was made this very second", "it is as good as another", code="backup_exists")
        unfinished.rename(place / name)
        flush_path(place)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _copy_keys(source: Path, target: Path) -> None:
    """Every key file, for its owner alone. A file that others may read is not taken. Raises Forbidden."""
    for path in sorted(source.rglob("*")):
        if path.suffix in (".key", ".pub") and path.is_file():
            if path.suffix == ".key" and is_open_to_others(path):
                raise Forbidden(f"the key file {path.name} is open to others", f"close it: chmod 600 {path}", code="key_readable")
            _write(target / path.relative_to(source), path.read_bytes())


def _write(path: Path, data: bytes) -> None:
    """A new file, for its owner alone, on the disk when this returns."""
    private_folder(path.parent)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_FILE), "wb") as file:
        file.write(data)
        flush(file)


def _digests(folder: Path) -> dict[str, Digest]:
    """Digest of every file below ``folder`` but the manifest and its signature, by relative path. What is no plain file gets one that
    nothing has."""
    paths = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    aside = {folder / _MANIFEST, folder / _SIGNATURE}
    return {path.relative_to(folder).as_posix(): _digest(path) for path in paths if path not in aside or path.is_symlink()}


def _digest(path: Path) -> Digest:
    if path.is_symlink() or not path.is_file():
        return ""
    return digest_file(path)


@contextmanager
def _storage(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"{place} cannot be written or read: {error.strerror or type(error).__name__}",
            "check the folder, its disk and your rights there, then run the same command again",
            code="backup_unreachable",
        ) from error


def _corrupt(what: str) -> TailorbirdError:
    return Corrupt(f"the backup cannot be used: {what}", "use another backup: nothing was restored", code="backup_corrupt")


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
