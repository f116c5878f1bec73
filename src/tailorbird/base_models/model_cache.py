"""Cache of converted models: one folder per model, built once and renamed when it is whole."""

from __future__ import annotations

import fcntl
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.domain.value import Digest
from tailorbird.system.files import digest_file, private_folder

#: Seconds between two words about a model that is being made, or waited for.
OFTEN = 5.0
TEMPLATE_FILE = "chat_template.jinja"


@dataclass(frozen=True)
class ModelCache:
    """Where converted models lie. ``shared`` is the folder of all workspaces of a user; ``own`` that of one workspace: names of the hub are
    pinned there, and what an earlier version converted there is used."""

    own: Path
    shared: Path | None = None

    @staticmethod
    def of(given: Path | ModelCache) -> ModelCache:
        """A cache, or the one that is a folder of its own."""
        return given if isinstance(given, ModelCache) else ModelCache(given)

    def place(self, name: str) -> Path:
        """Where the model called ``name`` lies, or is to be made."""
        here = self.own / name
        return here if self.shared is None or ready(here) else self.shared / name


def ready(folder: Path) -> bool:
    """True when ``folder`` holds exactly the files of its record, each of the recorded size."""
    record = _read_record(folder)
    if record is None or not folder.is_dir():
        return False
    return {name: size for name, (_, size) in record.items()} == {path.name: path.stat().st_size for path in folder.iterdir()}


def recorded_digests(folder: Path) -> dict[str, Digest] | None:
    """File name to digest, as recorded when ``folder`` was made; None when there is no record."""
    record = _read_record(folder)
    return None if record is None else {name: digest for name, (digest, _) in record.items()}


def make_once(folder: Path, fill: Callable[[Path], None], progress: Callable[[str], None]) -> Path:
    """``folder``, filled by ``fill(empty folder)`` unless it is ready.

    Safe with several processes and threads, and after a kill at any moment.
    """
    private_folder(folder.parent)
    if ready(folder):
        return folder
    with _locked(folder.with_name(f".{folder.name}.lock"), progress), _telling(folder.name, progress):
        if ready(folder):
            return folder
        partial = folder.with_name(f".{folder.name}.partial")
        for leftover in (partial, folder):
            shutil.rmtree(leftover, ignore_errors=True)
        private_folder(partial)
        try:
            fill(partial)
            record = {path.name: {"digest": digest_file(path), "size": path.stat().st_size} for path in sorted(partial.iterdir())}
            target = _record_path(folder)
            draft = target.with_suffix(".json.partial")
            draft.write_text(json.dumps(record, indent=2), encoding="utf-8")
            draft.replace(target)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def with_template(folder: Path, template: str, progress: Callable[[str], None]) -> Path:
    """The model in ``folder`` with another chat template, as ``with_file``."""
    return with_file(folder, TEMPLATE_FILE, template, progress)


def with_file(folder: Path, name: str, content: str, progress: Callable[[str], None]) -> Path:
    """The model in ``folder`` with another text in the file ``name``, in a folder beside it; other files are shared where the disk can."""
    digest = digest_bytes(name.encode(), content.encode()).removeprefix("sha256:")

    def fill(empty: Path) -> None:
        for path in folder.iterdir():
            if path.name != name:
                target = empty / path.name
                try:
                    target.hardlink_to(path)
                except OSError:  # a disk without links
                    shutil.copyfile(path, target)
        (empty / name).write_text(content, encoding="utf-8")

    return make_once(folder.with_name(f"{folder.name}-{digest[:32]}"), fill, progress)


@contextmanager
def _locked(path: Path, progress: Callable[[str], None]) -> Iterator[None]:
    """Holds ``path`` alone. The kernel drops the lock when its holder dies, so no lock is ever stale."""
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with _telling("waiting for another process that is preparing this model", progress, at_once=True):
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def _telling(what: str, progress: Callable[[str], None], *, at_once: bool = False) -> Iterator[None]:
    """Says every few seconds that ``what`` goes on, and for how long it has."""
    if at_once:
        progress(what)
    ended, started = threading.Event(), time.monotonic()

    def tell() -> None:
        while not ended.wait(OFTEN):
            with suppress(Exception):  # whoever listens may be gone; the work goes on
                progress(f"{what}: {time.monotonic() - started:.0f} s so far")

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()


def _record_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def _read_record(folder: Path) -> dict[str, tuple[Digest, int]] | None:
    try:
        content = json.loads(_record_path(folder).read_text(encoding="utf-8"))
        return {name: (entry["digest"], entry["size"]) for name, entry in content.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
