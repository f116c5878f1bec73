"""Uploading: what comes is stored under its digest, and no more is taken than is allowed."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.control import ask, code
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.usecases import Dependencies
from tailorbird.usecases.storage_quota import uploads_folder

UPLOAD = "/api/artifacts"
RAW = {"content-type": "application/octet-stream"}


@pytest.mark.parametrize("data", [b"", b"a,b\n", bytes(range(256)) * 4096], ids=["empty", "short", "a mebibyte"])
def test_the_bytes_are_stored_under_their_digest(deps: Dependencies, data: bytes) -> None:
    answered = ask(deps, lambda client: client.post(UPLOAD, content=data, headers=RAW), "author")
    assert answered.status_code == 200
    assert answered.json() == {"digest": digest_bytes(data), "bytes": len(data)}
    assert deps.artifacts.get(digest_bytes(data)) == data
    assert list(uploads_folder(deps, "acme").iterdir()) == []


def test_more_than_the_limit_is_refused_announced_or_not(deps: Dependencies) -> None:
    async def endless():  # type: ignore[no-untyped-def]
        while True:
            yield b"x" * 65536

    async def story(client: httpx.AsyncClient) -> list[tuple[int, str]]:
        announced = await client.post(UPLOAD, content=b"x" * (2**20 + 1), headers=RAW)
        return [code(announced), code(await client.post(UPLOAD, content=endless(), headers=RAW))]

    assert ask(deps, story, "author") == [(413, "too_large")] * 2
    assert list(uploads_folder(deps, "acme").iterdir()) == []


@pytest.mark.parametrize("who", ["viewer", "approver", "operator", "admin", "worker"])
def test_only_who_may_plan_uploads(deps: Dependencies, who: str) -> None:
    assert code(ask(deps, lambda client: client.post(UPLOAD, content=b"x", headers=RAW), who)) == (403, "role_missing")


def test_a_form_is_no_file(deps: Dependencies) -> None:
    assert code(ask(deps, lambda client: client.post(UPLOAD, data={"a": "b"}), "author")) == (400, "invalid_input")


def test_a_full_disk_is_said_to_be_full(deps: Dependencies, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open

    def full(path: Path, mode: str = "r", **kwargs: Any) -> Any:
        if mode == "ab":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return opened(path, mode, **kwargs)

    monkeypatch.setattr(Path, "open", full)
    answered = ask(deps, lambda client: client.post(UPLOAD, content=b"x", headers=RAW), "author")
    assert code(answered) == (503, "upload_failed")
    assert list(uploads_folder(deps, "acme").iterdir()) == []


def test_what_a_killed_upload_left_is_cleared_away_after_a_day(deps: Dependencies) -> None:
    uploads = uploads_folder(deps, "acme")
    for name, age in (("old", 90_000), ("new", 3_600)):
        (uploads / name).mkdir(parents=True)
        os.utime(uploads / name, (time.time() - age,) * 2)
    ask(deps, lambda client: client.post(UPLOAD, content=b"x", headers=RAW), "author")
    assert [left.name for left in uploads.iterdir()] == ["new"]
