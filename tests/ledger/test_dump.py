"""A dump holds everything as of one moment, and what it is restored into answers as the first one did, whichever kind each is."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

import support.ledger_samples as sample
from support.ledger_samples import digest
from support.postgresql import as_user
from tailorbird.crypto.log_verification import check_entries
from tailorbird.domain.errors import Conflict, Corrupt, Unavailable
from tailorbird.domain.identity import Tenant
from tailorbird.ledger import Ledger, open_ledger
from tailorbird.ledger.tables import metadata

TESTS = Path(__file__).parents[1]

AWKWARD = 'line\nbreak, \u2028, ünïcödé, \U0001f426 and "quotes"'

#: On the databases: the twin has nothing that a database could read.
pytestmark = pytest.mark.usefixtures("url")


def fill(ledger: Ledger) -> None:
    """At least one row in every table."""
    with ledger.work("acme") as work:
        work.records.put(sample.counts(1))
        work.runs.add(sample.run("acme").model_copy(update={"folder": AWKWARD}))
        work.steps.enqueue("run0001", "plan")
        work.steps.lease("run0001", "a", timedelta(minutes=1))
        release = sample.release("acme")
        work.releases.add(release)
        work.releases.approve(sample.approval(release))
        work.judgements.add(sample.judgement(release))
        work.looks.add("routing", digest("s"), digest("c"))
        work.splits.remember("routing", {digest(n): ("train", "g") for n in range(5000)})
        work.aliases.put(sample.alias("acme"))
        work.requests.add([sample.request("acme", n).model_copy(update={"latency_ms": 0.1 + n / 3}) for n in range(3)])
        work.identities.add(sample.identity("acme"))
        work.keys.add(sample.api_key("acme"))
        work.sessions.add(sample.session("acme"))
        work.signals.add([sample.signal("acme")])
        work.decisions.add([sample.decision()])
        work.erasures.add(sample.erasure("acme"))
        work.secrets.get("rows")
        work.data_keys.add(sample.wrapped_key("acme"))
        work.usage.add([sample.usage()])
        work.usage.add([sample.key_usage()])
        work.storage.add({digest("artifact"): 2**40})
        work.feedback.put(sample.feedback("acme"))
        work.reviews.add([sample.review("acme")])
        work.contents.add([sample.content("acme")])
        work.rollouts.add(sample.rollout("acme"))
        work.events.append([sample.event("acme", n, subject=AWKWARD) for n in range(300)])
        work.events.add_checkpoint(sample.checkpoint(300, work.events.root()))
    with ledger.system() as system:
        system.gateways.beat("gateway", 1, sample.START)


@pytest.fixture
def filled(ledger):
    fill(ledger)
    return ledger


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(request, tmp_path):
    """An empty database of each kind."""
    return as_user(f"sqlite:///{tmp_path / 'new.db'}" if request.param == "sqlite" else request.getfixturevalue("server").empty())


@pytest.fixture
def new(new_url):
    """A database that was just migrated, of each kind."""
    with closing(open_ledger(new_url, sample.SetClock())) as ledger:
        ledger.migrate()
        yield ledger


@pytest.fixture
def new_file(tmp_path):
    with closing(open_ledger(f"sqlite:///{tmp_path / 'new.db'}")) as ledger:
        ledger.migrate()
        yield ledger


def rows_in(folder: Path) -> dict[str, list[bytes]]:
    """Order aside: databases sort text by their own rules."""
    return {path.name: sorted(path.read_bytes().splitlines()) for path in folder.glob("*.jsonl")}


def test_what_is_restored_is_what_was_dumped(filled, new, tmp_path):
    rows = filled.dump(tmp_path / "one")
    assert rows.keys() == metadata.tables.keys()
    assert min(rows.values()) >= 1
    assert rows["splits"] == 5000
    assert new.restore(tmp_path / "one") == rows
    new.dump(tmp_path / "two")
    assert rows_in(tmp_path / "one") == rows_in(tmp_path / "two")


def test_a_dump_is_of_one_moment_while_others_write(ledger, url, new_file, tmp_path):
    writer = subprocess.Popen(
        [sys.executable, "-m", "support.ledger_writers", "forever", url, "1"], cwd=TESTS, stdout=subprocess.PIPE, text=True
    )
    try:
        assert writer.stdout.readline()
        for name in ("first", "second", "third"):
            rows = ledger.dump(tmp_path / name)
            assert rows["records"] == rows["log_entries"]  # the writer adds one of each in a transaction
    finally:
        writer.kill()
        writer.communicate()
    assert new_file.restore(tmp_path / "third")["log_entries"] > 1
    with new_file.system(write=False) as system:
        log = system.events
        assert check_entries(log.entries(), [], size=log.size(), root=log.root()) == ()


def add_event(ledger: Ledger) -> None:
    with ledger.system() as system:
        system.events.append([sample.event("acme")])


def add_tenant(ledger: Ledger) -> None:
    with ledger.system() as system:
        system.tenants.add(Tenant(name="initech", created_at=sample.START))


@pytest.mark.parametrize("use", [add_event, add_tenant])
def test_a_database_that_was_used_is_refused(filled, new, tmp_path, use):
    filled.dump(tmp_path / "dump")
    use(new)
    with pytest.raises(Conflict) as refused:
        new.restore(tmp_path / "dump")
    assert refused.value.error_code == "conflict"


def change_a_byte(folder: Path) -> None:
    data = (folder / "runs.jsonl").read_bytes()
    (folder / "runs.jsonl").write_bytes(data.replace(b"active", b"failed"))


def change_manifest(folder: Path, **changes: object) -> None:
    stated = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(stated | changes))


def claim_another_root(folder: Path) -> None:
    change_manifest(folder, log_root="0" * 64)


def forge_a_row(folder: Path) -> None:
    """Changed together with the manifest."""
    (folder / "steps.jsonl").write_bytes(b'{"tenant": "acme"}\n')
    stated = json.loads((folder / "manifest.json").read_text())["files"]
    stated["steps"]["sha256"] = hashlib.sha256(b'{"tenant": "acme"}\n').hexdigest()
    change_manifest(folder, files=stated)


DAMAGES = [
    change_a_byte,
    claim_another_root,
    forge_a_row,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_dump_restores_nothing(filled, new_file, tmp_path, damage):
    filled.dump(tmp_path / "dump")
    damage(tmp_path / "dump")
    with pytest.raises(Corrupt) as refused:
        new_file.restore(tmp_path / "dump")
    assert refused.value.error_code == "backup_corrupt"
    with new_file.system(write=False) as system:
        assert system.tenants.all() == {}
        assert system.events.size() == 0


@pytest.mark.parametrize(
    "other",
    [
        "9999",
    ],
)
def test_a_dump_of_another_schema_is_refused(filled, new_file, tmp_path, other):
    filled.dump(tmp_path / "dump")
    change_manifest(tmp_path / "dump", revision=other)
    with pytest.raises(Unavailable) as refused:
        new_file.restore(tmp_path / "dump")
    assert refused.value.error_code == "backup_version"
