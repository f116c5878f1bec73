"""Checkpoints leave the machine: to files and webhooks, late when they must, without ever stopping the work."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from support.doubles import FixedClock, MemoryNotifier
from support.operations import Open, add_event, with_upkeep
from tailorbird import auth
from tailorbird.domain.errors import NotFound
from tailorbird.domain.event import Checkpoint
from tailorbird.usecases import Dependencies
from tailorbird.usecases.identities import act_as
from tailorbird.usecases.maintenance.audit import checkpoint_notices, keep_signed, log_key, log_public_key, make_checkpoint, verify_log

HOOK = "https://witness.example/hook/secret-in-the-path"


def checkpoint(deps: Dependencies) -> Checkpoint:
    return make_checkpoint(deps, act_as(deps, "acme", "admin"))


def lines(file: Path) -> list[Checkpoint]:
    return [Checkpoint.model_validate_json(line) for line in file.read_bytes().splitlines()]


def pass_time(deps: Dependencies, hours: float) -> None:
    assert isinstance(deps.clock, FixedClock)
    deps.clock.advance(timedelta(hours=hours))


def codes(deps: Dependencies) -> list[str]:
    return [notice.code for notice in checkpoint_notices(deps)]


def test_a_checkpoint_goes_to_every_place(deps: Dependencies, tmp_path: Path) -> None:
    file, hook = tmp_path / "notes.jsonl", MemoryNotifier()
    deps = with_upkeep(deps, checkpoint_files=(file,), checkpoint_hooks={HOOK: hook})
    first = checkpoint(deps)
    add_event(deps)
    second = checkpoint(deps)
    assert lines(file) == [first, second]
    assert [message["note"] for message in hook.sent] == [first.note, second.note]
    assert {message["kind"] for message in hook.sent} == {"log.checkpoint"}
    for shipped in lines(file):
        auth.check_note(shipped, log_public_key(deps))


def test_a_place_that_was_away_gets_what_it_missed(deps: Dependencies, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hook, file = MemoryNotifier(failures=2), tmp_path / "missing" / "notes.jsonl"
    deps = with_upkeep(deps, checkpoint_files=(file,), checkpoint_hooks={HOOK: hook})
    made = [checkpoint(deps)]
    for _ in range(2):
        add_event(deps)
        made.append(checkpoint(deps))
    assert [message["size"] for message in hook.sent] == [note.size for note in made]
    assert "witness.example" in caplog.text
    assert "secret-in-the-path" not in caplog.text + "".join(path.read_text() for path in (deps.workspace / "shipping").iterdir())
    file.parent.mkdir()
    assert keep_signed(deps) is None
    assert lines(file) == made


def test_the_schedule_signs_only_a_log_that_grew(deps: Dependencies) -> None:
    assert keep_signed(deps) is not None
    pass_time(deps, 5)
    assert keep_signed(deps) is None
    add_event(deps)
    pass_time(deps, 0.5)
    assert keep_signed(deps) is not None
    add_event(deps)
    assert keep_signed(deps) is None, "another process made one just now"
    pass_time(deps, 1)
    assert keep_signed(deps) is not None


def test_health_says_when_checkpoints_stay_or_come_late(deps: Dependencies, tmp_path: Path) -> None:
    assert codes(deps) == ["checkpoints_stay"]
    assert codes(with_upkeep(deps, checkpoint_files=(tmp_path / "notes",)))[0] == "checkpoints_stay"
    hook = MemoryNotifier()
    deps = with_upkeep(deps, checkpoint_hooks={HOOK: hook})
    keep_signed(deps)
    assert codes(deps) == []
    pass_time(deps, 50)
    assert codes(deps) == [], "a log that did not grow owes nothing"
    hook.failures = 10
    add_event(deps)
    keep_signed(deps)
    assert codes(deps) == []
    pass_time(deps, 2.1)
    assert codes(deps) == ["checkpoints_late"]
    report = verify_log(deps, act_as(deps, "acme", "viewer"))
    assert report.intact
    assert "lack what was logged" in report.warnings[0]
    hook.failures = 0
    keep_signed(deps)
    assert codes(deps) == []


def test_a_machine_without_the_key_signs_nothing_in_its_own_name(deps: Dependencies, another: Open) -> None:
    checkpoint(deps)
    key, public = deps.workspace / "keys" / "log.key", deps.workspace / "keys" / "log.pub"
    text, viewer = log_public_key(deps), act_as(deps, "acme", "viewer")
    key.rename(key.with_suffix(".away"))
    with pytest.raises(NotFound) as missing:
        log_key(deps)
    assert missing.value.error_code == "log_key_missing"
    report = verify_log(deps, viewer)
    assert [problem.split(":")[0] for problem in report.problems] == [
        "the key that seals this log is not here",
        "no signature of 1 checkpoints could be checked",
    ]
    public.write_text(text)
    assert verify_log(deps, act_as(deps, "acme", "viewer")).intact
    assert not key.exists()
