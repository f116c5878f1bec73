"""Bytes that are no UTF-8, wherever people and programs put bytes in: named, with place and remedy, and none of them repeated."""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import pytest

from support.faults import Desk
from support.processes import CHAT, live
from support.serving import House

#: A word that stands beside the bad byte: it must not come back in an error.
SECRET = "xyzzyword"
BAD = SECRET.encode() + b" \xff\xfe caf\xe9"


def objective_with(folder: Path, template: Desk, name: str, content: bytes) -> Path:
    """The objective of ``template``, with the data file ``name``."""
    folder.mkdir()
    (folder / name).write_bytes(content)
    path = folder / "objective.yaml"
    path.write_text(template.objective.read_text(encoding="utf-8").replace("rows.csv", name), encoding="utf-8")
    (folder / "base").symlink_to(template.objective.parent / "base")
    return path


DATA = {
    "rows.csv": b"text,label\n" + b"a good one,refund\n" * 3 + BAD + b",refund\n",
    "rows.jsonl": b'{"text": "a good one", "label": "refund"}\n' * 3 + b'{"text": "' + BAD + b'", "label": "refund"}\n',
}


def refused(desk: Desk, *arguments: str) -> str:
    """What a command says that must fail cleanly."""
    call = desk.call(*arguments)
    assert call.run() == 1, call.said
    assert "error[" in call.said
    assert "hint: " in call.said
    assert "Traceback" not in call.said
    assert SECRET not in call.said
    return call.said


@pytest.mark.parametrize("name", DATA)
def test_in_data(desk: Desk, template: Desk, tmp_path: Path, name: str) -> None:
    said = refused(desk, "adapt", str(objective_with(tmp_path / "job", template, name, DATA[name])))
    assert "UTF-8" in said
    assert name in said


def test_in_a_key_file(desk: Desk) -> None:
    (desk.workspace / "keys" / "acme" / "admin.key").write_bytes(BAD)
    refused(desk, "key", "list", "--as", "admin")


def test_in_arguments(desk: Desk) -> None:
    refused(desk, "runs", "show", os.fsdecode(b"caf\xe9"))
    refused(desk, "adapt", str(desk.objective), "--as", os.fsdecode(b"caf\xe9"))


BODIES = {
    "bytes": b'{"model": "acme/routing", "messages": [{"role": "user", "content": "' + BAD + b'"}]}',
    "half-a-pair": b'{"model": "acme/routing", "messages": [{"role": "user", "content": "\\ud800 ' + SECRET.encode() + b'"}]}',
    "utf-16": '{"model": "acme/routing"}'.encode("utf-16"),
}


def test_in_requests(house: House) -> None:
    """Refused with a status below 500; the gateway goes on answering."""
    house.point("routing", house.release())
    with live(house) as served:
        for name, body in BODIES.items():
            answer = httpx.post(served.url + CHAT, content=body, headers=served.headers | {"content-type": "application/json"})
            assert answer.status_code in (200, 400), (name, answer.text)
            assert SECRET not in answer.text
        assert httpx.get(served.url + "/v1/models", headers={b"authorization": b"Bearer tb_\xff\xe9"}).status_code == 401
        assert httpx.get(served.url + "/v1/models/acme%2F%ff%fe", headers=served.headers).status_code == 404
        assert httpx.get(served.url + "/v1/models", headers=served.headers).status_code == 200
