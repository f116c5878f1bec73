"""The stand-alone verifier finds a real log intact, every kind of tampering, and needs nothing of the package."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import support.ledger_samples as sample
from tailorbird import auth
from tailorbird.crypto.canonical_json import canonical_json
from tailorbird.crypto.merkle import leaf_hash, root
from tailorbird.ledger import open_ledger

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "verify_audit_log.py"
ORIGIN = "tailorbird/log"


class Case:
    """An exported log, checkpoints of it, and the key that signed them: all on disk, as an auditor gets them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log.jsonl"
        self.kept = folder / "kept.jsonl"
        auth.create_key(folder / "log.key")
        self.private = auth.load_key(folder / "log.key")
        self.key = auth.public_key(self.private)

    def sign(self, size: int, root: str) -> None:
        checkpoint = auth.make_checkpoint(ORIGIN, size, root, self.private, sample.START)
        (self.folder / f"{size}.note").write_text(checkpoint.note, encoding="utf-8")
        with self.kept.open("ab") as file:
            file.write(canonical_json(checkpoint) + b"\n")

    def entries(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]

    def write(self, entries: list[dict[str, object]]) -> None:
        self.log.write_text("".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries), encoding="utf-8")

    def verify(self, *checkpoints: Path, key: str = "") -> subprocess.CompletedProcess[str]:
        files = [str(file) for file in checkpoints or [self.kept]]
        command = [sys.executable, "-I", str(SCRIPT), str(self.log), "--key", key or self.key, "--checkpoints", *files]
        return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def case(ledger, tmp_path):
    case = Case(tmp_path)
    for size in (1, 7, 20):
        with ledger.system() as system:
            before = system.events.size()
            system.events.append([sample.event("acme", n, subject="käse \u2028") for n in range(before, size)])
            case.sign(size, system.events.root())
    with ledger.system() as system:
        system.events.append([sample.event("acme", 20)])
        case.write([{"index": entry.index, "leaf_hash": entry.leaf_hash, "body": entry.body} for entry in system.events.entries()])
    return case


@pytest.fixture
def file_case(fresh_sqlite, tmp_path):
    """The same without going through both databases again."""
    case = Case(tmp_path)
    with closing(open_ledger(fresh_sqlite(tmp_path))) as ledger, ledger.system() as system:
        system.events.append([sample.event("acme", n) for n in range(20)])
        case.sign(20, system.events.root())
        case.write([{"index": entry.index, "leaf_hash": entry.leaf_hash, "body": entry.body} for entry in system.events.entries()])
    return case


def test_a_real_log_is_intact(case):
    for checkpoints in ([case.kept], [case.folder / "7.note", case.folder / "20.note"]):
        for key in (case.key, auth.verifier_key(ORIGIN, case.key)):
            done = case.verify(*checkpoints, key=key)
            assert (done.returncode, done.stderr) == (0, "")
            assert "0 problems" in done.stdout
            assert "the newest over 20 entries" in done.stdout


def test_it_imports_nothing_of_the_package(file_case):
    arguments = ["verify", str(file_case.log), "--key", file_case.key, "--checkpoints", str(file_case.kept)]
    code = (
        f"import runpy, sys; sys.argv = {arguments}; sys.modules['tailorbird'] = None; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) <= 270


@pytest.fixture
def rotated(fresh_sqlite, tmp_path):
    """A log whose key was changed three times, with a checkpoint by each key, and the public keys."""
    case, keys = Case(tmp_path), []
    with closing(open_ledger(fresh_sqlite(tmp_path))) as ledger, ledger.system() as system:
        for number in range(3):
            keys.append(case.key)
            system.events.append([sample.event("acme", 10 * number + n) for n in range(10)])
            case.sign(system.events.size(), system.events.root())
            auth.create_key(tmp_path / f"{number}.key")
            former, case.private = case.private, auth.load_key(tmp_path / f"{number}.key")
            case.key = auth.public_key(case.private)
            facts = auth.rotation_facts(former, case.private, sample.START)
            system.events.append([sample.event("acme").model_copy(update={"kind": auth.ROTATED, "data": facts})])
        keys.append(case.key)
        case.sign(system.events.size(), system.events.root())
        case.write([{"index": entry.index, "leaf_hash": entry.leaf_hash, "body": entry.body} for entry in system.events.entries()])
    return case, keys


def test_any_key_that_the_log_had_leads_to_the_others(rotated):
    case, keys = rotated
    for key in keys:
        done = case.verify(key=key)
        assert done.returncode == 0, done.stdout
        assert "0 problems; 4 checkpoints, the newest over 33 entries" in done.stdout


def test_a_key_signs_nothing_after_its_change(rotated):
    case, keys = rotated
    case.kept.unlink()
    case.private = auth.load_key(case.folder / "log.key")
    entries = case.entries()
    case.sign(len(entries), root([bytes.fromhex(str(entry["leaf_hash"])) for entry in entries]).hex())
    done = case.verify(key=keys[0])
    assert done.returncode == 1
    assert f"the checkpoint over {len(entries)} entries is not signed with the key" in done.stdout


def test_a_key_that_leaked_begins_no_other_log(rotated, tmp_path):
    """Its holder writes what they like, then the genuine change to the key after it, and signs that: the key after signed none of it."""
    case, keys = rotated
    change = case.entries()[10]
    bodies = ['{"kind":"forged"}'] * 10 + [str(change["body"])]
    hashes = [leaf_hash(body.encode()) for body in bodies]
    case.write([{"index": at, "leaf_hash": hashes[at].hex(), "body": body} for at, body in enumerate(bodies)])
    case.kept.unlink()
    case.private = auth.load_key(case.folder / "log.key")
    case.sign(10, root(hashes[:10]).hex())
    done = case.verify(key=keys[1])
    assert done.returncode == 1
    assert "no checkpoint by the key after that covers the change" in done.stdout


def change_a_body(entries):
    entries[5]["body"] = str(entries[5]["body"]).replace("ada", "bob")


def change_a_body_and_its_leaf(entries):
    change_a_body(entries)
    entries[5]["leaf_hash"] = leaf_hash(str(entries[5]["body"]).encode()).hex()


def drop_an_entry_and_count_anew(entries):
    del entries[5]
    for index, entry in enumerate(entries):
        entry["index"] = index


def cut_the_tail(entries):
    del entries[12:]


def add_one_in_front(entries):
    body = '{"kind":"forged"}'
    entries.insert(0, {"index": 0, "leaf_hash": leaf_hash(body.encode()).hex(), "body": body})
    for index, entry in enumerate(entries):
        entry["index"] = index


TAMPERINGS = {
    change_a_body_and_its_leaf: "the checkpoint over 20 entries states another root",
    drop_an_entry_and_count_anew: "covers more than the 19 here",
    cut_the_tail: "covers more than the 12 here",
    add_one_in_front: "the checkpoint over 20 entries states another root",
}


@pytest.mark.parametrize("tamper", TAMPERINGS)
def test_tampering_is_found(file_case, tamper):
    entries = file_case.entries()
    tamper(entries)
    file_case.write(entries)
    done = file_case.verify()
    assert done.returncode == 1
    assert TAMPERINGS[tamper] in done.stdout


def forge(note: str) -> str:
    """Another size under the same signature."""
    return note.replace("\n20\n", "\n19\n", 1)


def break_signature(note: str) -> str:
    head, _, blob = note.rstrip("\n").rpartition(" ")
    raw = bytearray(base64.b64decode(blob))
    raw[-1] ^= 1
    return f"{head} {base64.b64encode(bytes(raw)).decode()}\n"


@pytest.mark.parametrize(
    "change",
    [
        forge,
        break_signature,
        lambda note: "{}",
    ],
)
def test_a_changed_note_is_no_checkpoint(file_case, change):
    note = file_case.folder / "20.note"
    note.write_text(change(note.read_text(encoding="utf-8")), encoding="utf-8")
    done = file_case.verify(note)
    assert done.returncode == 1
    assert "PROBLEM" in done.stdout


def test_a_wrong_call_is_told_apart_from_a_bad_log(file_case):
    assert file_case.verify(key="AAAA").returncode == 2
    assert file_case.verify(key=f"{ORIGIN}+00000000+{file_case.key}").returncode == 2
    assert file_case.verify(file_case.folder / "nothing").returncode == 2
