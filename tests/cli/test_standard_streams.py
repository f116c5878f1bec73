"""Closed standard streams, and letters that the encoding of standard output lacks."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.cli import called
from tailorbird.cli.session import print_json
from tailorbird.system.process import complete_standard_streams, writes_all_letters

TELLING = """
import os, sys
from tailorbird.system.process import complete_standard_streams
complete_standard_streams()
print([sys.stdin.read(), sys.stdin.isatty(), os.open(os.devnull, os.O_RDONLY) > 2], file=sys.stderr)
print("told")
"""


@pytest.mark.parametrize(("closed", "out", "err"), [("<&-", "told\n", "['', False, True]\n"), (">&-", "", "[''"), ("2>&-", "told\n", "")])
def test_a_closed_stream_is_empty_and_its_number_is_given_to_nothing_else(closed: str, out: str, err: str) -> None:
    command = ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, TELLING]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    assert done.stdout == out
    assert done.stderr.startswith(err)
    assert "Error" not in done.stderr


@pytest.mark.parametrize(
    ("encoding", "written"),
    [("ascii", rb"kappa \u2265 0.4, gr\xf6\xdfe, \U0001f426"), ("latin-1", b"kappa \\u2265 0.4, gr\xf6\xdfe, \\U0001f426")],
)
def test_letters_that_the_encoding_lacks_are_written_as_numbers(encoding: str, written: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """``tailorbird plan`` had ended with an error once its work was done: an argument is not UTF-8 text."""
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    complete_standard_streams()
    sys.stdout.write("kappa ≥ 0.4, größe, \U0001f426\udcff")
    sys.stdout.flush()
    assert sys.stdout.buffer.getvalue() == written + rb"\udcff"  # type: ignore[attr-defined]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_can_be_read_whatever_the_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    complete_standard_streams()
    told = {"reason": "≥ 0.4, größe, \U0001f426"}
    print_json(told)
    sys.stdout.flush()
    assert json.loads(sys.stdout.buffer.getvalue().decode(encoding)) == told  # type: ignore[attr-defined]
    assert writes_all_letters() == (encoding == "utf-8")


def test_init_asks_nobody_where_standard_input_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"row {n},{'ab'[n % 2]}\n" for n in range(40)))
    assert called("init", "--from", "rows.csv") == 0
    assert "FILL IN" in (tmp_path / "objective.yaml").read_text(encoding="utf-8")
