"""Backup of a workspace while its servers run, and restore into another.

A backup is a folder named by its time, with ``ledger/``, ``artifacts/``, ``settings.yaml``, ``keys/`` where they were wanted, and
``manifest.json``. ArtifactStore that the backup before it holds are hard links to those, so that they take no space, and deleting a folder
deletes what no other backup holds. A backup is built under another name and renamed when it is whole. It begins with a signed checkpoint of
the log and holds it: what was cut off or changed since then shows. The key of the log signs the manifest: who knows that key sees whether
the backup is of that workspace.

The record is copied first and the artifacts after it: whatever a row names was stored before the row was, so it is there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
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
from tailorbird.domain.event import Event
from tailorbird.domain.identity import Signature
from tailorbird.domain.value import Digest, Value
from tailorbird.ledger.artifacts import ArtifactStore, open_artifacts
from tailorbird.ledger.blobs import Blobs, LocalBlobs
from tailorbird.system.files import OWNER_FILE, clear_stale, digest_file, flush, flush_path, is_open_to_others, private_folder
from tailorbird.system.process import build_name
from tailorbird.usecases.audit_events import Facts, record
from tailorbird.usecases.dependencies import Actor, Dependencies, Progress
from tailorbird.usecases.maintenance.audit import check_log, log_key, log_public_key, make_checkpoint
from tailorbird.usecases.registry import local

_MANIFEST, _SETTINGS, _LEDGER, _KEYS, _ARTIFACTS = "manifest.json", "settings.yaml", "ledger", "keys", "artifacts"
#: The signature of the manifest by the key of the log, beside it; and the purpose that is signed for.
_SIGNATURE, _PURPOSE = "manifest.sig.json", "backup"
_UNFINISHED = ".unfinished-"


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
    """A finished backup. ``digest`` is that of its manifest, and so names everything in it; ``new`` artifacts were copied, the others are
    links to the backup before; ``log_key`` is the public key (base64) that signed it."""

    folder: str
    digest: Digest
    rows: int
    artifacts: int
    new: int
    log_size: int
    log_key: str
    with_keys: bool


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
    """A backup whose files are all there and unchanged, signed by the key of its log. Its artifacts are checked when they are copied."""

    folder: Path
    digest: Digest
    manifest: BackupManifest

    @property
    def settings(self) -> bytes:
        """The settings, as they were given to ``back_up``."""
        return (self.folder / _SETTINGS).read_bytes()


@local(Action.BACK_UP)
def back_up(deps: Dependencies, actor: Actor, target: Path, settings: bytes, progress: Progress, *, with_keys: bool = False) -> Backup:
    """Copies record and artifacts into a new folder below ``target`` while others write, with the text ``settings``.

    Raises Forbidden, InvalidInput (inside the workspace), Unavailable, Corrupt, Conflict (another was made in the same second).
    """
    if target.resolve().is_relative_to(deps.workspace.resolve()):
        raise InvalidInput("a backup inside the workspace is lost with it", "name a folder on another disk")
    demand_undamaged(deps)
    with _storage(target):
        private_folder(target)
    checkpoint = make_checkpoint(deps, actor)
    name = f"{deps.clock.now():%Y-%m-%dT%H%M%SZ}"
    with _storage(target), _built(target, name) as folder:
        rows, new = deps.ledger.dump(folder / _LEDGER), 0
        earlier = next(iter(_backups_in(target)), None)
        store, artifacts = _store_in(folder), sorted(deps.artifacts.digests())
        for number, artifact in enumerate(artifacts, 1):
            _link(earlier, folder, "", artifact.removeprefix("sha256:"))
            new += deps.artifacts.copy(artifact, store)
            progress.count(number, len(artifacts))
        sealed = _sealed_files(deps)
        for file in sealed:
            scope, _, blob = file.partition("/")
            _link(earlier, folder, f"sealed/{scope}", blob)
        new += _copied(sealed, deps.sealed_files, store.sealed_files) if deps.sealed_files is not None else 0
        os.sync()  # links are names alone, and nothing else writes these to the disk
        _write(folder / _SETTINGS, settings)
        if with_keys:
            _copy_keys(deps.workspace / _KEYS, folder / _KEYS)
        manifest = BackupManifest(
            format=1,
            version=build_name(),
            made_at=checkpoint.at,
            log_size=checkpoint.size,
            log_root=checkpoint.root,
            log_key=log_public_key(deps),
            rows=rows,
            files=_digests(folder),
            artifacts=tuple(artifacts),
            with_keys=(folder / _KEYS).is_dir(),
            sealed=sealed,
        )
        digest = digest_bytes(canonical_json(manifest))
        _write(folder / _MANIFEST, canonical_json(manifest))
        _write(folder / _SIGNATURE, canonical_json(sign(log_key(deps), "log", _PURPOSE, digest, manifest.made_at)))
    with deps.ledger.work(actor.tenant) as work:
        facts: Facts = {"artifacts": len(artifacts), "with_keys": with_keys, "log_size": checkpoint.size}
        record(work, "workspace.backed_up", actor.name, digest, deps.clock.now(), facts)
    return Backup(
        folder=str(target / name),
        digest=digest,
        rows=sum(rows.values()),
        artifacts=len(artifacts) + len(sealed),
        new=new,
        log_size=checkpoint.size,
        log_key=manifest.log_key,
        with_keys=with_keys,
    )


def _backups_in(place: Path) -> list[Path]:
    """Folders of finished backups, newest first: ``place`` itself where it is one."""
    return [path for path in (place, *sorted(place.glob("[0-9]*"), reverse=True)) if (path / _MANIFEST).is_file()]


def _store_in(folder: Path) -> ArtifactStore:
    """The artifacts of the backup in ``folder``."""
    return open_artifacts(str((folder / _ARTIFACTS).absolute()), folder / _ARTIFACTS)


def _link(earlier: Path | None, folder: Path, part: str, name: str) -> None:
    """Links what the backup ``earlier`` holds under ``name`` into ``folder``. Where that cannot be done, it is copied later."""
    if earlier is not None:
        old, new = (LocalBlobs(backup / _ARTIFACTS / part).local(name) for backup in (earlier, folder))
        with suppress(OSError):
            private_folder(new.parent)
            os.link(old, new, follow_symlinks=False)


def _sealed_files(deps: Dependencies) -> tuple[str, ...]:
    """The files that every tenant's key has encrypted, each as ``SCOPE/NAME``."""
    if deps.sealed_files is None:
        return ()
    with deps.ledger.system(write=False) as system:
        tenants = list(system.tenants.all())
    found = list[str]()
    for tenant in tenants:
        with deps.ledger.work(tenant, write=False) as work:
            key = work.data_keys.get()
        if key is not None:
            found += [f"{key.scope}/{name}" for name in sorted(deps.sealed_files(key.scope).names())]
    return tuple(found)


def demand_undamaged(deps: Dependencies) -> None:
    """Raises Corrupt where the database's file is damaged: what is written into it, or copied from it, would be lost."""
    damages = deps.ledger.damages()
    if damages:
        raise Corrupt(
            f"the database is damaged: {'; '.join(damages[:3])}",
            "stop every process of this workspace, keep a copy of the file, and restore the newest backup: tailorbird restore",
            code="database_corrupt",
        )


def find_backup(source: Path, expected: Digest | None = None, trusted: str = "") -> FoundBackup:
    """The backup at ``source``, or the newest below it, every file checked against the manifest.

    ``trusted`` is the public key (base64) of the log that it must be signed by. Raises NotFound, and Corrupt: a file is missing, changed or
    unknown, the manifest does not have the ``expected`` digest, or is not signed by the trusted key.
    """
    whole = _backups_in(source)
    if not whole:
        raise NotFound(f"there is no backup in {source}", "name the folder that tailorbird backup was given")
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
        try:
            signature = Signature.model_validate_json((folder / _SIGNATURE).read_bytes())
        except (ValidationError, FileNotFoundError):
            raise _corrupt("it has no signature that can be read") from None
    if not holds(signature, manifest.log_key, _PURPOSE, digest_bytes(text)):
        raise _corrupt("the signature of its manifest does not hold")
    if trusted and manifest.log_key != trusted:
        raise Corrupt(
            f"the backup is signed by another key ({manifest.log_key}), and not by the key that is trusted",
            "use a backup of the workspace whose key you trust: tailorbird backup tells it, and it stands in keys/log.pub",
        )
    return FoundBackup(folder, digest_bytes(text), manifest)


def restore(deps: Dependencies, found: FoundBackup, progress: Progress) -> RestoredWorkspace:
    """Fills the new workspace of ``deps`` from a backup, and verifies it.

    Raises Conflict (something is there), Corrupt (an artifact, a row or the log is not what was backed up), NotFound, Unavailable.
    """
    manifest, store = found.manifest, _store_in(found.folder)
    rows = deps.ledger.restore(found.folder / _LEDGER)
    for number, digest in enumerate(manifest.artifacts, 1):
        store.copy(digest, deps.artifacts)
        progress.count(number, len(manifest.artifacts))
    if deps.sealed_files is not None:
        _copied(manifest.sealed, store.sealed_files, deps.sealed_files)
    with _storage(deps.workspace):
        if manifest.with_keys:
            _copy_keys(found.folder / _KEYS, deps.workspace / _KEYS)
        else:
            _write(deps.workspace / _KEYS / "log.pub", f"{manifest.log_key}\n".encode())
    if log_public_key(deps) != manifest.log_key:
        raise _corrupt("its key of the log is another one")
    if problems := check_log(deps).problems:
        raise _corrupt(f"its log does not verify: {problems[0]}")
    with deps.ledger.system() as system:
        if (manifest.log_size, manifest.log_root) not in {(one.size, one.root) for one in system.events.checkpoints()}:
            raise _corrupt("its log lacks the checkpoint that the backup began with")
        # From here on this log and the one that was backed up may differ: both say why.
        of = {"kind": "workspace.restored", "actor": "restore", "subject": found.digest, "at": deps.clock.now()}
        system.events.append([Event(tenant=name, data={"log_size": manifest.log_size}, **of) for name in system.tenants.all()])
    return RestoredWorkspace(
        digest=found.digest,
        made_at=manifest.made_at,
        rows=sum(rows.values()),
        artifacts=len(manifest.artifacts) + len(manifest.sealed),
        log_size=manifest.log_size,
        with_keys=manifest.with_keys,
    )


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
            raise Conflict(f"a backup {name} was made this very second", "it is as good as another")
        unfinished.rename(place / name)
        flush_path(place)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _copy_keys(source: Path, target: Path) -> None:
    """Every key file, for its owner alone. A file that others may read is not taken. Raises Forbidden."""
    for path in sorted(source.rglob("*")):
        if path.suffix in (".key", ".pub") and path.is_file():
            if path.suffix == ".key" and is_open_to_others(path):
                raise Forbidden(f"the key file {path.name} is open to others", f"close it: chmod 600 {path}")
            _write(target / path.relative_to(source), path.read_bytes())


def _write(path: Path, data: bytes) -> None:
    """A new file, for its owner alone, on the disk when this returns."""
    private_folder(path.parent)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_FILE), "wb") as file:
        file.write(data)
        flush(file)


def _digests(folder: Path) -> dict[str, Digest]:
    """Digest of every file below ``folder`` but the manifest, its signature, and the artifacts, which are named by theirs; by relative
    path. What is no plain file gets one that nothing has."""
    paths = [path for part in sorted(folder.iterdir()) if part.name != _ARTIFACTS for path in (part, *sorted(part.rglob("*")))]
    paths = [path for path in paths if path.is_symlink() or not path.is_dir()]
    aside = {folder / _MANIFEST, folder / _SIGNATURE}
    return {
        path.relative_to(folder).as_posix(): "" if path.is_symlink() or not path.is_file() else digest_file(path)
        for path in paths
        if path not in aside or path.is_symlink()
    }


@contextmanager
def _storage(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(
            f"{place} cannot be written or read: {error.strerror or type(error).__name__}",
            "check the folder, its disk and your rights there, then run the same command again",
            code="storage_unreachable",
        ) from error


def _corrupt(what: str) -> TailorbirdError:
    return Corrupt(f"the backup cannot be used: {what}", "use another backup: nothing was restored", code="backup_corrupt")


def _copied(files: Iterable[str], source: Callable[[str], Blobs], target: Callable[[str], Blobs]) -> int:
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
