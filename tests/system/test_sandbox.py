"""A confined process: each limit ends it, the refusal says which one, and it gets out nowhere."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tailorbird.domain.errors import DataInvalid, TailorbirdError
from tailorbird.system.sandbox import SandboxJob, SandboxLimits, call, stream
from tailorbird.system.sandbox import client as confined

LIMITS = SandboxLimits(memory=400 << 20, processor=2, wait=20.0, output=10 << 20)


def job(name: str, given: Any = None, limits: SandboxLimits = LIMITS) -> SandboxJob:
    return SandboxJob(f"support.confined_functions:{name}", given, limits, "d.csv", DataInvalid)


def refused(asked: SandboxJob) -> TailorbirdError:
    with pytest.raises(TailorbirdError) as caught:
        for _ in stream(asked):
            pass
    return caught.value


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_what_goes_in_comes_out() -> None:
    values = [1, "ä\ud800", None, [1.5, {"a": []}], "x" * 3_000_000]
    assert list(stream(job("echo", values))) == values
    heard: list[Any] = []
    assert call(job("echo", [1, 2, 3]), heard.append) == 3
    assert heard == [1, 2]


@pytest.mark.parametrize(
    ("name", "limits", "code"),
    [
        ("eat", LIMITS, "parser_memory"),
        ("compute", LIMITS, "parser_processor"),
        ("sleep", replace(LIMITS, wait=0.5), "parser_time"),
        ("flood", LIMITS, "file_expands"),
        ("crash", LIMITS, "parser_crashed"),
        ("leave", LIMITS, "parser_crashed"),
        ("lie", LIMITS, "file_broken"),
        ("break_down", LIMITS, "file_broken"),
        ("refuse", LIMITS, "its_own"),
    ],
)
def test_the_refusal_says_which_limit_was_met(name: str, limits: SandboxLimits, code: str) -> None:
    error = refused(job(name, limits=limits))
    assert (type(error), error.error_code) == (DataInvalid, code)
    assert error.hint
    assert "secret" not in error.message + error.hint


def test_what_the_server_holds_is_not_counted_as_the_jobs() -> None:
    """A server that has read large libraries forks children that hold as much from the first moment."""
    warm = {name: replace(job(name, [1]), warm=("support.large_module",)) for name in ("crash", "eat", "echo")}
    try:
        assert refused(warm["crash"]).error_code == "parser_crashed"
        assert refused(warm["eat"]).error_code == "parser_memory"
        assert list(stream(warm["echo"])) == [1]
    finally:
        confined._close()


def test_it_gets_out_nowhere(tmp_path: Path) -> None:
    assert dict(stream(job("attempts", str(tmp_path)))) == dict.fromkeys(
        ("socket", "fork", "program", "signal", "file", "limit"), "refused"
    )
    assert not (tmp_path / "written").exists()


def test_it_may_write_where_it_is_told_so(tmp_path: Path) -> None:
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    asked = job("attempts", str(tmp_path / "here"), replace(LIMITS, written=1000))
    assert dict(stream(replace(asked, places=(str(tmp_path / "there"),))))["file"] == "refused"
    assert dict(stream(replace(asked, places=(str(tmp_path / "here"),))))["file"] == "done"


def test_all_its_files_together_have_a_limit(tmp_path: Path) -> None:
    """Each of them has the one of a single file."""
    limits = replace(LIMITS, written=1 << 20, space=3 << 20)
    error = refused(replace(job("fill", str(tmp_path), limits), places=(str(tmp_path),)))
    assert error.error_code == "file_expands"


def test_it_knows_no_secret_and_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setattr(confined, "_servers", {})
    try:
        found = call(job("surroundings"))
    finally:
        confined._close()
    assert not [name for name in found["environment"] if "AWS" in name or name.startswith("HF_TOKEN") or "SECRET" in name]
    assert set(found["interfaces"]) <= {"lo"}


def test_who_stops_listening_ends_it() -> None:
    values = stream(job("linger"))
    pid = next(values)
    assert is_alive(pid)
    values.close()
    deadline = time.monotonic() + 60
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_after_its_server_was_killed_another_is_started() -> None:
    assert call(job("thread")) == [1]
    server = confined._servers[os.getpid()]
    server._process.kill()
    server._process.wait()
    assert call(job("thread")) == [1]
