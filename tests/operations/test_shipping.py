"""Checkpoints leave the machine: to files and webhooks, late when they must, without ever stopping the work."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from operations_kit import Open, add_event, with_upkeep

from tailorbird import access
from tailorbird.domain.errors import NotFound
from tailorbird.domain.event import Checkpoint
from tailorbird.integrations.memory import FixedClock, MemoryNotifier
from tailorbird.lifecycle import Parts
from tailorbird.lifecycle.identities.people import act_as
from tailorbird.lifecycle.upkeep.audit import keep_signed, log_key, log_public_key, make_checkpoint, verify_log
from tailorbird.lifecycle.upkeep.shipping import notices

HOOK = "https://witness.example/hook/secret-in-the-path"


def checkpoint(parts: Parts) -> Checkpoint:
    return make_checkpoint(parts, act_as(parts, "acme", "admin"))


def lines(file: Path) -> list[Checkpoint]:
    return [Checkpoint.model_validate_json(line) for line in file.read_bytes().splitlines()]


def pass_time(parts: Parts, hours: float) -> None:
    assert isinstance(parts.clock, FixedClock)
    parts.clock.advance(timedelta(hours=hours))


def codes(parts: Parts) -> list[str]:
    return [notice.code for notice in notices(parts)]


def test_a_checkpoint_goes_to_every_place(parts: Parts, tmp_path: Path) -> None:
    file, hook = tmp_path / "notes.jsonl", MemoryNotifier()
    parts = with_upkeep(parts, checkpoint_files=(file,), checkpoint_hooks={HOOK: hook})
    first = checkpoint(parts)
    add_event(parts)
    second = checkpoint(parts)
    assert lines(file) == [first, second]
    assert [message["note"] for message in hook.sent] == [first.note, second.note]
    assert {message["kind"] for message in hook.sent} == {"log.checkpoint"}
    for shipped in lines(file):
        access.check_note(shipped, log_public_key(parts))


def test_a_place_that_was_away_gets_what_it_missed(parts: Parts, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hook, file = MemoryNotifier(failures=2), tmp_path / "missing" / "notes.jsonl"
    parts = with_upkeep(parts, checkpoint_files=(file,), checkpoint_hooks={HOOK: hook})
    made = [checkpoint(parts)]
    for _ in range(2):
        add_event(parts)
        made.append(checkpoint(parts))
    assert [message["size"] for message in hook.sent] == [note.size for note in made]
    assert "witness.example" in caplog.text
    assert "secret-in-the-path" not in caplog.text + "".join(path.read_text() for path in (parts.workspace / "shipping").iterdir())
    file.parent.mkdir()
    assert keep_signed(parts) is None
    assert lines(file) == made


def test_a_torn_line_is_ended_before_the_next(parts: Parts, tmp_path: Path) -> None:
    file = tmp_path / "notes.jsonl"
    file.write_bytes(b'{"origin": "tailor')
    made = checkpoint(with_upkeep(parts, checkpoint_files=(file,)))
    torn, whole = file.read_bytes().splitlines()
    assert torn == b'{"origin": "tailor'
    assert json.loads(whole)["note"] == made.note


def test_the_schedule_signs_only_a_log_that_grew(parts: Parts) -> None:
    assert keep_signed(parts) is not None
    pass_time(parts, 5)
    assert keep_signed(parts) is None
    add_event(parts)
    pass_time(parts, 0.5)
    assert keep_signed(parts) is not None
    add_event(parts)
    assert keep_signed(parts) is None, "another process made one just now"
    pass_time(parts, 1)
    assert keep_signed(parts) is not None


def test_health_says_when_checkpoints_stay_or_come_late(parts: Parts, tmp_path: Path) -> None:
    assert codes(parts) == ["checkpoints_stay"]
    assert codes(with_upkeep(parts, checkpoint_files=(tmp_path / "notes",)))[0] == "checkpoints_stay"
    hook = MemoryNotifier()
    parts = with_upkeep(parts, checkpoint_hooks={HOOK: hook})
    keep_signed(parts)
    assert codes(parts) == []
    pass_time(parts, 50)
    assert codes(parts) == [], "a log that did not grow owes nothing"
    hook.failures = 10
    add_event(parts)
    keep_signed(parts)
    assert codes(parts) == []
    pass_time(parts, 2.1)
    assert codes(parts) == ["checkpoints_late"]
    report = verify_log(parts, act_as(parts, "acme", "viewer"))
    assert report.intact
    assert "lack what was logged" in report.warnings[0]
    hook.failures = 0
    keep_signed(parts)
    assert codes(parts) == []


def test_health_says_when_the_log_is_shorter_than_what_was_shipped(parts: Parts, another: Open) -> None:
    """As after it was cut, or a backup restored in its place."""
    parts = with_upkeep(parts, checkpoint_hooks={HOOK: MemoryNotifier()})
    for _ in range(50):
        add_event(parts)
    keep_signed(parts)
    assert codes(parts) == []
    cut = with_upkeep(another(), checkpoint_hooks={HOOK: MemoryNotifier()})
    shutil.copytree(parts.workspace / "shipping", cut.workspace / "shipping")
    assert codes(cut) == ["log_shorter_than_shipped"]


def test_a_machine_without_the_key_signs_nothing_in_its_own_name(parts: Parts, another: Open) -> None:
    checkpoint(parts)
    key, public = parts.workspace / "keys" / "log.key", parts.workspace / "keys" / "log.pub"
    text = log_public_key(parts)
    key.rename(key.with_suffix(".away"))
    with pytest.raises(NotFound) as missing:
        log_key(parts)
    assert missing.value.error_code == "log_key_missing"
    report = verify_log(parts, act_as(parts, "acme", "viewer"))
    assert [problem.split(":")[0] for problem in report.problems] == ["no signature of 1 checkpoints could be checked"]
    public.write_text(text)
    assert verify_log(parts, act_as(parts, "acme", "viewer")).intact
    assert not key.exists()
