"""Secrets by reference: read when they are needed, and never told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tailorbird.domain.errors import Unavailable
from tailorbird.system.secret_references import read_secret

KNOWN = {"variable": "env:OUTSIDE_KEY", "file": "file:outside.key", "missing": "env:NO_SUCH_VARIABLE", "nowhere": "file:none"}


def test_a_variable_and_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTSIDE_KEY", "sk-one")
    (tmp_path / "outside.key").write_text("sk-two\n")
    assert read_secret("variable", KNOWN, tmp_path) == "sk-one"
    assert read_secret("file", KNOWN, tmp_path) == "sk-two"
    (tmp_path / "outside.key").write_text("sk-three\n")
    assert read_secret("file", KNOWN, tmp_path) == "sk-three", "a new key counts at once"


@pytest.mark.parametrize("name", ["unknown", "missing", "nowhere"])
def test_a_key_that_is_missing(tmp_path: Path, name: str) -> None:
    with pytest.raises(Unavailable) as refused:
        read_secret(name, KNOWN, tmp_path)
    assert refused.value.error_code == "endpoint_key_missing"


@pytest.mark.parametrize("content", [b"", b"two\nlines", b"\xff\xfe"])
def test_what_is_no_key(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "outside.key").write_bytes(content)
    with pytest.raises(Unavailable):
        read_secret("file", KNOWN, tmp_path)
