"""A log that was touched anywhere is told apart from an intact one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailorbird.crypto.canonical_json import canonical_json
from tailorbird.crypto.log_verification import check_entries, event_body, event_leaf
from tailorbird.crypto.merkle import leaf_hash, root
from tailorbird.domain.errors import InvalidInput
from tailorbird.domain.event import Checkpoint, Event, LogEntry

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ANY = Event(kind="run.started", tenant="acme", actor="ada", subject="run", at=AT)


def made_log(count: int) -> list[LogEntry]:
    events = [
        Event(kind="run.started", tenant="acme", actor="ada", subject=f"run-{i}", at=AT, data={"n": i, "share": 0.5}) for i in range(count)
    ]
    return [LogEntry(index=i, leaf_hash=event_leaf(e).hex(), event=e) for i, e in enumerate(events)]


def checkpoint(entries: list[LogEntry], size: int) -> Checkpoint:
    head = root([event_leaf(entry.event) for entry in entries[:size]]).hex()
    return Checkpoint(origin="here", size=size, root=head, note="", at=AT)


@given(st.integers(1, 30), st.data())
def test_a_changed_event_is_named(count, data):
    log = made_log(count)
    marks, victim = [checkpoint(log, count)], data.draw(st.integers(0, count - 1))
    forged = log[victim].event.model_copy(update={"actor": "mallory"})
    log[victim] = log[victim].model_copy(update={"event": forged})
    problems = check_entries(log, marks)
    assert len(problems) == 2
    assert str(victim) in problems[0]


@given(st.integers(1, 30), st.data())
def test_a_leaf_forged_along_with_its_event_still_breaks_the_checkpoint(count, data):
    log = made_log(count)
    marks, victim = [checkpoint(log, count)], data.draw(st.integers(0, count - 1))
    forged = log[victim].event.model_copy(update={"actor": "mallory"})
    log[victim] = LogEntry(index=victim, leaf_hash=event_leaf(forged).hex(), event=forged)
    assert check_entries(log, marks) == (f"the checkpoint at size {count} does not match the entries: another root",)


def test_a_missing_entry_is_named():
    log = made_log(5)
    del log[2]
    assert check_entries(log, []) == ("entry 2 is missing: the next one found is 3",)


@pytest.mark.parametrize("by", ["checkpoint", "head"])
def test_a_cut_off_tail_is_found(by):
    log = made_log(5)
    whole = checkpoint(log, 5)
    problems = check_entries(log[:4], [whole]) if by == "checkpoint" else check_entries(log[:4], [], size=5, root=whole.root)
    assert len(problems) == 1
    assert "gone" in problems[0]


def test_two_checkpoints_that_fork_cannot_both_hold():
    log = made_log(3)
    fork = checkpoint(log, 3).model_copy(update={"root": "00" * 32})
    assert len(check_entries(log, [checkpoint(log, 3), fork])) == 1


def with_bodies(log: list[LogEntry]) -> list[LogEntry]:
    return [entry.model_copy(update={"body": canonical_json(entry.event).decode()}) for entry in log]


@pytest.mark.parametrize(
    "count",
    [
        1,
        9000,
    ],
)
def test_a_log_that_is_read_with_its_bodies_holds_at_every_length(count):
    bodies = [f'{{"n":{n}}}' for n in range(count)]
    log = [LogEntry(index=n, leaf_hash=leaf_hash(body.encode()).hex(), event=ANY, body=body) for n, body in enumerate(bodies)]
    heads = {size: root([bytes.fromhex(entry.leaf_hash) for entry in log[:size]]).hex() for size in {0, count // 2, count}}
    marks = [Checkpoint(origin="here", size=size, root=head, note="", at=AT) for size, head in heads.items()]
    assert check_entries(iter(log), marks, size=count, root=heads[count]) == ()
    forged = [mark.model_copy(update={"root": "00" * 32}) for mark in marks]
    assert len(check_entries(log, forged)) == len(marks)


def test_even_white_space_in_a_body_is_found():
    log = with_bodies(made_log(5))
    assert check_entries(log, [checkpoint(log, 5)]) == ()
    log[3] = log[3].model_copy(update={"body": log[3].body.replace(",", ", ", 1)})
    assert check_entries(log, [checkpoint(log, 5)])[0].startswith("entry 3 was changed")


@given(st.dictionaries(st.text(), st.floats() | st.integers()))
def test_a_recorded_number_is_read_back_in_its_form(data):
    event = ANY.model_copy(update={"data": data})
    try:
        body = event_body(event)
    except InvalidInput:
        return  # a number that would not come back
    again = Event.model_validate_json(body)
    assert again == event
    assert canonical_json(again).decode() == body
