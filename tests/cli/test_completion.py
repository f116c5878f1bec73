"""Shell completion and suggestions for misspelt commands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.cli import tailorbird

#: Prints what is completed, and fails when a verb's module was imported that was not asked for.
PROGRAM = """
import sys
from tailorbird.cli.main import VERBS, main
try:
    main()
finally:
    loaded = {name.removeprefix("tailorbird.cli.") for name in sys.modules if name.startswith("tailorbird.cli.")}
    assert loaded & {module for module, _ in VERBS.values()} <= set(sys.argv[1:]), loaded
    assert "torch" not in sys.modules
"""


def completed(words: str, *modules: str) -> list[str]:
    place = len(words.split(" ")) - 1
    environment = os.environ | {"_TAILORBIRD_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(place)}
    done = subprocess.run([sys.executable, "-c", PROGRAM, *modules], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [("tailorbird pl", ["plan"]), ("tailorbird ro", ["rollback", "rollout"]), ("tailorbird --ser", ["--server"]), ("tailorbird eng", [])],
)
def test_verbs_and_shared_options_are_completed_without_importing_a_verb(words: str, expected: list[str]) -> None:
    assert completed(words) == expected


def test_subcommands_and_options_of_a_verb_are_completed() -> None:
    assert completed("tailorbird runs s", "runs") == ["show"]
    assert completed("tailorbird --json runs list --", "runs") == [
        *("--limit", "--workspace", "--as", "--key", "--json", "--server", "--ca", "--help")
    ]


def test_the_script_for_a_shell_profile(tmp_path: Path) -> None:
    environment = os.environ | {"_TAILORBIRD_COMPLETE": "source_bash"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    script = tmp_path / "completion.bash"
    script.write_text(done.stdout)
    subprocess.run(["bash", "--norc", str(script)], check=True)
    assert "tailorbird" in done.stdout


@pytest.mark.parametrize(
    ("words", "meant"), [(["plna"], "plan"), (["adpt", "objective.yaml"], "adapt"), (["--json", "runs", "lsit"], "list"), (["judge"], "")]
)
def test_a_misspelt_command_is_answered_with_the_nearest(tmp_path: Path, words: list[str], meant: str) -> None:
    done = tailorbird(tmp_path, *words)
    assert done.returncode == 2
    assert f"did you mean {meant}?" in done.stderr if meant else "commands are: init, models" in done.stderr
