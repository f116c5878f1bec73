"""The command line in a process of its own, forked from one that has imported it: a call costs what it does, and not Python's start."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tailorbird.cli.main import VERBS, main

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        *(f"tailorbird.cli.{module}" for module in dict.fromkeys(module for module, _ in VERBS.values())),
        "tailorbird.ledger",
    ]
)


def tailorbird(folder: Path, *arguments: str, seconds: float = 120) -> subprocess.CompletedProcess[str]:
    """``tailorbird`` with these arguments, run in ``folder``."""
    with TemporaryDirectory() as place:
        said = [Path(place) / "out", Path(place) / "err"]
        process = _FORKS.Process(target=_run, args=(folder, arguments, said))
        process.start()
        process.join(seconds)
        assert process.exitcode is not None, f"tailorbird {' '.join(arguments)} did not end"
        out, err = (file.read_text(encoding="utf-8") for file in said)
    return subprocess.CompletedProcess(arguments, process.exitcode, out, err)


def called(*arguments: str) -> int:
    """The exit status of ``tailorbird`` with these arguments, run in this process."""
    try:
        main(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    raise AssertionError("the command line always ends by an exit status")


def _run(folder: Path, arguments: tuple[str, ...], said: list[Path]) -> None:
    for number, file in enumerate(said, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(folder)
    sys.exit(main(arguments))
