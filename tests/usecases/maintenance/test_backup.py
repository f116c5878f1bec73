"""A backup taken while others write holds one moment, whole; restored elsewhere it verifies; one that was touched is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

import support.ledger_samples as sample
from support.doubles import FixedClock
from support.operations import TENANT, Open, add_event, open_workspace
from support.postgresql import Server
from tailorbird import wiring
from tailorbird.auth import KeyFileSealer, create_key
from tailorbird.cli.main import app
from tailorbird.domain.deployment import RequestRow
from tailorbird.domain.errors import Conflict, Corrupt, Forbidden, InvalidInput, NotFound, TailorbirdError, Unavailable
from tailorbird.domain.identity import Signature
from tailorbird.ledger import open_artifacts, open_ledger
from tailorbird.settings import load_settings
from tailorbird.usecases import Dependencies, Progress
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.maintenance.audit import make_checkpoint, verify_log
from tailorbird.usecases.maintenance.backup import Backup, FoundBackup, back_up, find_backup, restore


def a_backup(deps: Dependencies, folder: Path, *, with_keys: bool = False, who: str = "admin") -> Backup:
    assert isinstance(deps.clock, FixedClock)
    deps.clock.advance(timedelta(seconds=1))
    return back_up(deps, act_as(deps, TENANT, who), folder, b"tenant: acme\n", Progress(), with_keys=with_keys)


def restored_at(folder: Path, found: FoundBackup, database: str = "") -> Dependencies:
    """A new workspace filled from ``found``."""
    folder.mkdir()
    ledger = open_ledger(database or f"sqlite:///{folder / 'tailorbird.db'}", sealer=KeyFileSealer(folder))
    ledger.migrate()
    deps = Dependencies(ledger, open_artifacts(str(folder / "artifacts"), folder / "cache"), FixedClock(), folder, _none, _none, _none)
    try:
        restore(deps, found, Progress())
    except TailorbirdError:
        ledger.close()
        raise
    return deps


def _none() -> Any:
    raise AssertionError("nothing that needs torch is opened")


def row(number: int, deps: Dependencies) -> RequestRow:
    return sample.request(TENANT, number).model_copy(update={"alias": "acme/desk", "release": None, "at": deps.clock.now()})


@contextmanager
def writing(deps: Dependencies) -> Iterator[list[int]]:
    """Appends a request row, an event that names it and an artifact, again and again, each time in one transaction."""
    written, ended = [0], threading.Event()

    def write() -> None:
        while not ended.is_set():
            number = written[0] + 1
            digest = deps.artifacts.put(f"artifact {number}".encode())
            with deps.ledger.work(TENANT) as work:
                work.requests.add([row(number, deps)])
            add_event(deps, digest)
            written[0] = number

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(write)
        try:
            yield written
        finally:
            ended.set()
            done.result()


def wait_for(written: list[int], number: int) -> None:
    while written[0] < number:
        time.sleep(0.005)


def requests_and_events(deps: Dependencies) -> tuple[int, list[str]]:
    """How many request rows there are, and the artifacts that events name."""
    with deps.ledger.work(TENANT, write=False) as work:
        rows = len(work.requests.latest(100_000))
        return rows, [entry.event.kind for entry in work.events.entries() if entry.event.kind.startswith("sha256:")]


@pytest.mark.parametrize("kinds", [("sqlite", "postgresql"), ("postgresql", "sqlite")])
def test_a_backup_taken_while_others_write_is_restored_elsewhere(
    kinds: tuple[str, str], another: Open, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    source, target = ("" if kind == "sqlite" else request.getfixturevalue("postgresql").empty() for kind in kinds)
    deps = another(source)
    with writing(deps) as written:
        wait_for(written, 20)
        before = written[0]
        made = a_backup(deps, tmp_path / "backups", with_keys=True)
        wait_for(written, before + 20)
    found = find_backup(tmp_path / "backups", made.digest)
    there = restored_at(tmp_path / "restored", found, target)
    try:
        rows, named = requests_and_events(there)
        assert before <= rows <= written[0]
        # A row and its event are two transactions, so at most one event is behind.
        assert rows - 1 <= len(named) <= rows
        assert all(there.artifacts.exists(digest) for digest in named)
        report = verify_log(there, act_as(there, TENANT, "viewer"))
        assert report.intact
        assert report.checkpoints == 1
        make_checkpoint(there, act_as(there, TENANT, "admin"))
        assert verify_log(there, act_as(there, TENANT, "viewer")).intact
    finally:
        there.ledger.close()


def test_the_next_backup_copies_only_what_is_new(deps: Dependencies, tmp_path: Path) -> None:
    for number in range(5):
        deps.artifacts.put(f"artifact {number}".encode())
    first = a_backup(deps, tmp_path / "backups")
    deps.artifacts.put(b"one more")
    second = a_backup(deps, tmp_path / "backups")
    assert (first.new, first.artifacts, second.new, second.artifacts) == (5, 5, 1, 6)
    assert find_backup(tmp_path / "backups").digest == second.digest
    assert find_backup(Path(first.folder)).digest == first.digest
    there = restored_at(tmp_path / "restored", find_backup(Path(first.folder)))
    assert not set(there.artifacts.digests()) - set(find_backup(Path(first.folder)).manifest.artifacts)
    there.ledger.close()
    with deps.ledger.work(TENANT, write=False) as work:
        assert [entry.event.kind for entry in work.events.about(second.digest)] == ["workspace.backed_up"]


def test_what_only_a_deleted_backup_held_goes_with_its_folder(deps: Dependencies, tmp_path: Path) -> None:
    """As the rows of a person who was erased."""
    place = tmp_path / "backups"
    erased, stays = deps.artifacts.put(b"rows of a person"), deps.artifacts.put(b"rows of others")
    first = a_backup(deps, place)
    deps.artifacts.destroy(erased)
    kept = a_backup(deps, place)
    assert kept.new == 0
    shutil.rmtree(first.folder)
    assert not [path for path in place.rglob("*") if path.is_file() and b"rows of a person" in path.read_bytes()]
    there = restored_at(tmp_path / "restored", find_backup(place))
    assert there.artifacts.get(stays) == b"rows of others"
    there.ledger.close()


def test_keys_come_along_only_when_asked_and_stay_closed(deps: Dependencies, tmp_path: Path) -> None:
    plain, full = a_backup(deps, tmp_path / "plain"), a_backup(deps, tmp_path / "full", with_keys=True)
    assert not list(Path(plain.folder).rglob("*.key"))
    for path in (Path(full.folder), *Path(full.folder, "keys").rglob("*"), Path(full.folder, "settings.yaml")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    there = restored_at(tmp_path / "restored", find_backup(tmp_path / "full"))
    assert {path.name for path in (tmp_path / "restored" / "keys").rglob("*.key")} >= {"log.key", "admin.key"}
    there.ledger.close()
    # Without keys the log can still be verified, but nobody can sign in its name.
    there = restored_at(tmp_path / "bare", find_backup(tmp_path / "plain"))
    shutil.copytree(deps.workspace / "keys" / TENANT, tmp_path / "bare" / "keys" / TENANT)
    assert verify_log(there, act_as(there, TENANT, "viewer")).intact
    with pytest.raises(NotFound) as missing:
        make_checkpoint(there, act_as(there, TENANT, "admin"))
    assert missing.value.error_code == "log_key_missing"
    there.ledger.close()
    (deps.workspace / "keys" / TENANT / "viewer.key").chmod(0o644)
    with pytest.raises(Forbidden):
        a_backup(deps, tmp_path / "again", with_keys=True)
    assert list((tmp_path / "again").glob("[0-9.]*")) == [], "a backup that failed leaves nothing"


def _rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.chmod(0o600)
    path.write_bytes(change(path.read_bytes()))


def _drop_last_event(folder: Path) -> None:
    """What somebody does who knows how manifests are made: an event is cut off and both manifests are made to match."""
    events = folder / "ledger" / "log_entries.jsonl"
    _rewrite(events, lambda data: b"".join(data.splitlines(keepends=True)[:-1]))
    ledger = json.loads((folder / "ledger" / "manifest.json").read_text())
    ledger["files"]["log_entries"] = {"rows": ledger["files"]["log_entries"]["rows"] - 1, "sha256": _sha256(events)}
    (folder / "ledger" / "manifest.json").write_text(json.dumps(ledger))
    outer = json.loads((folder / "manifest.json").read_text())
    for name in ("ledger/log_entries.jsonl", "ledger/manifest.json"):
        outer["files"][name] = f"sha256:{_sha256(folder / name)}"
    (folder / "manifest.json").write_text(json.dumps(outer))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


_TAMPERINGS: dict[str, Callable[[Path], None]] = {
    "a file cut short": lambda folder: _rewrite(folder / "ledger" / "log_entries.jsonl", lambda data: data[:-10]),
    "a file taken out": lambda folder: (folder / "ledger" / "identities.jsonl").unlink(),
    "settings changed": lambda folder: _rewrite(folder / "settings.yaml", lambda data: data + b"host: 0.0.0.0\n"),
    "an artifact changed": lambda folder: _rewrite(_an_artifact(folder), lambda data: data + b"!"),
    "an artifact taken out": lambda folder: _an_artifact(folder).unlink(),
    "an event cut off by somebody who knows": _drop_last_event,
}


def _an_artifact(folder: Path) -> Path:
    return next(path for path in (folder / "artifacts").rglob("*") if path.is_file())


@pytest.mark.parametrize("what", _TAMPERINGS)
def test_a_touched_backup_is_refused(what: str, deps: Dependencies, tmp_path: Path) -> None:
    deps.artifacts.put(b"the weights")
    made = a_backup(deps, tmp_path / "backups")
    _TAMPERINGS[what](Path(made.folder))
    with pytest.raises((Corrupt, NotFound)):
        restored_at(tmp_path / "restored", find_backup(tmp_path / "backups"))


def _forge(folder: Path) -> None:
    """What an attacker leaves who has a workspace of their own: a backup that is whole, signed by another log's key."""
    other = open_workspace(folder.parent / "forger")
    shutil.rmtree(folder)
    a_backup(other, folder)
    other.ledger.close()


def test_a_backup_of_another_log_is_refused_by_who_trusts_a_key(deps: Dependencies, tmp_path: Path) -> None:
    made = a_backup(deps, tmp_path / "backups")
    assert find_backup(tmp_path / "backups", trusted=made.log_key).manifest.log_key == made.log_key
    _forge(tmp_path / "backups")
    forged = find_backup(tmp_path / "backups")
    assert forged.manifest.log_key != made.log_key
    with pytest.raises(Corrupt) as refused:
        find_backup(tmp_path / "backups", trusted=made.log_key)
    assert refused.value.error_code == "corrupt"


@pytest.mark.parametrize("how", ["taken away", "of another manifest", "no signature", "by another key"])
def test_a_signature_that_does_not_hold_is_refused(how: str, deps: Dependencies, tmp_path: Path) -> None:
    made = a_backup(deps, tmp_path / "backups")
    file = Path(made.folder) / "manifest.sig.json"
    signature = Signature.model_validate_json(file.read_bytes())
    changed = {"of another manifest": {"digest": "sha256:" + "0" * 64}, "by another key": {"public_key": "A" * 43 + "="}}
    if how == "taken away":
        file.unlink()
    elif how == "no signature":
        file.write_bytes(b"{}")
    else:
        file.write_text(signature.model_copy(update=changed[how]).model_dump_json())
    with pytest.raises(Corrupt):
        find_backup(tmp_path / "backups")


def test_what_cannot_be_is_refused(deps: Dependencies, tmp_path: Path) -> None:
    with pytest.raises(Forbidden):
        a_backup(deps, tmp_path / "backups", who="author")
    with pytest.raises(InvalidInput) as inside:
        a_backup(deps, deps.workspace / "backups")
    assert inside.value.error_code == "invalid_input"
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable):
        a_backup(deps, tmp_path / "file" / "backups")
    with pytest.raises(NotFound):
        find_backup(tmp_path / "nothing")
    made = a_backup(deps, tmp_path / "backups")
    found = find_backup(Path(made.folder))
    with pytest.raises(Conflict):
        restore(deps, found, Progress())


def run(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=True)
    if isinstance(result.exception, TailorbirdError):
        assert status == 1, result.exception
        return str(result.exception)
    assert result.exit_code == status, result.output
    return result.stdout


def test_from_the_command_line(tmp_path: Path, postgresql: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, new, backups = (str(tmp_path / name) for name in ("old", "new", "backups"))
    run("init", "--tenant", TENANT, "--workspace", workspace)
    with (tmp_path / "old" / "settings.yaml").open("a") as file:
        file.write("port: 9090\nwebhook_secret: hush\ncheckpoints: [notes.jsonl]\n")
    made = json.loads(run("backup", backups, "--with-keys", "--workspace", workspace, "--json"))
    assert "hush" not in (Path(made["folder"]) / "settings.yaml").read_text()
    database = postgresql.empty()
    # The old workspace's database in the environment is not what the backup is restored into.
    monkeypatch.setenv("TAILORBIRD_DATABASE", f"sqlite:///{workspace}/tailorbird.db")
    stranger = create_key(tmp_path / "stranger.key")
    assert "signed by another key" in run("restore", backups, "--workspace", new, "--trust", stranger, status=1)
    trusted = ("--digest", made["digest"], "--trust", made["log_key"])
    said = run("restore", backups, "--workspace", new, "--database", database, *trusted)
    assert "the log verifies" in said
    assert "backup_corrupt" not in run("restore", backups, "--workspace", new, status=1)
    monkeypatch.delenv("TAILORBIRD_DATABASE")
    kept = yaml.safe_load((tmp_path / "new" / "settings.yaml").read_text())
    assert kept == {"tenant": TENANT, "port": 9090, "database": database}
    assert stat.S_IMODE((tmp_path / "new" / "settings.yaml").stat().st_mode) == 0o600
    # A process of its own: a command leaves its connections to the end of the process.
    verify = [sys.executable, "-m", "tailorbird.cli.main", "audit", "verify", "--workspace", new]
    assert "the log is intact" in subprocess.run(verify, capture_output=True, text=True, check=True).stdout
    there = wiring.open_dependencies(load_settings(tmp_path / "new", {}))
    with there.ledger.work(TENANT, write=False) as work:
        assert work.events.latest(1)[0].event.kind in ("workspace.restored", "audit.verified")
    there.ledger.close()
    assert not list(tmp_path.glob(".new-*"))
