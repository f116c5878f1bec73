"""The shared options are declared once, on the root, and stand anywhere in the command line."""

from __future__ import annotations

import json
import re
import shlex
from enum import EnumType
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from support.cli import tailorbird
from tailorbird.auth import fingerprint
from tailorbird.cli.invocation import FLAGS, SharedOptions, shared_options
from tailorbird.cli.main import VERBS, app

ROOT: Any = typer.main.get_command(app)


def declared(command: Any, path: tuple[str, ...]) -> dict[tuple[str, ...], Any]:
    """Every command that can be called, by its words."""
    below = getattr(command, "commands", {})
    found = {} if below and not command.invoke_without_command else {path: command}
    for name, one in below.items():
        found |= declared(one, (*path, name))
    return found


def commands() -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    for verb, (module, _) in VERBS.items():
        found |= declared(typer.main.get_command(import_module(f"tailorbird.cli.{module}").apps[verb]), (verb,))
    return found


COMMANDS = commands()
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
SHARED = st.fixed_dictionaries(
    {},
    optional={"workspace": WORDS, "who": WORDS, "key": WORDS, "as_json": st.just(True), "server": WORDS, "ca": WORDS},
)


def every_option(command: Any) -> set[str]:
    below = getattr(command, "commands", {}).values()
    return {option for param in command.params for option in (*param.opts, *param.secondary_opts)}.union(*map(every_option, below))


def test_no_verb_declares_a_shared_option() -> None:
    shared = {*FLAGS.values(), "-w"}
    for verb, (module, _) in VERBS.items():
        command = typer.main.get_command(import_module(f"tailorbird.cli.{module}").apps[verb])
        assert not every_option(command) & shared, verb


def test_the_root_declares_each_shared_option() -> None:
    assert {param.name for param in ROOT.params} >= set(FLAGS)
    assert set(FLAGS.values()) == {"--workspace", "--as", "--key", "--json", "--server", "--ca"}


def parsed(words: list[str]) -> SharedOptions:
    """The shared options of a call; the verb itself is not run."""
    command, context = ROOT, ROOT.make_context("tailorbird", list(words))
    with context:
        rest = [*context._protected_args, *context.args]
        ROOT.callback(**context.params)
        while rest:
            name, command, rest = command.resolve_command(context, rest)
            context = command.make_context(name, rest, parent=context)
            rest = [*getattr(context, "_protected_args", []), *context.args] if getattr(command, "commands", None) else []
    return shared_options()


def required(command: Any) -> list[list[str]]:
    """The least that the command asks for itself, each an option with its value or an argument."""
    needed = []
    for param in command.params:
        if param.required:
            kind = param.type_descriptor.annotation
            values = next((list(one) for one in (kind, *get_args(kind)) if isinstance(one, EnumType)), get_args(kind) or ["1"])
            needed.append([values[0]] if param.param_type_name == "argument" else [param.opts[0], values[0]])
    return needed


@st.composite
def calls(draw: st.DrawFn) -> tuple[list[str], SharedOptions]:
    path = draw(st.sampled_from(sorted(COMMANDS)))
    options = draw(SHARED)
    units = [[word] for word in path] + required(COMMANDS[path])
    for name, value in options.items():
        flag = FLAGS[name]
        forms = [[flag]] if value is True else [[flag, value], [f"{flag}={value}"]]
        if name == "workspace":
            forms += [["-w", value], [f"-w{value}"]]
        units.insert(draw(st.integers(0, len(units))), draw(st.sampled_from(forms)))
    expected = {name: Path(value) if name in ("workspace", "key") else value for name, value in options.items()}
    return [word for unit in units for word in unit], SharedOptions(**expected)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_verb_is_parsed_without_any(path: tuple[str, ...]) -> None:
    assert parsed([*path, *(word for unit in required(COMMANDS[path]) for word in unit)]) == SharedOptions()


@given(calls())
def test_the_session_is_the_same_wherever_the_options_stand(call: tuple[list[str], SharedOptions]) -> None:
    words, expected = call
    assert parsed(words) == expected


def documented() -> list[list[str]]:
    """The commands in the blocks of README and docs, without what the shell does with them."""
    root = Path(__file__).resolve().parents[2]
    pages = [root / "README.md", *(root / "docs").rglob("*.md")]
    blocks = [block for page in pages for block in page.read_text(encoding="utf-8").split("```")[1::2]]
    lines = re.findall(r"^(?:\$ )?tailorbird (.+)$", re.sub(r"\s*\\\n\s*", " ", "\n".join(blocks)), re.MULTILINE)
    commands = (shlex.split(re.split(r"\s{2,}", line)[0], comments=True) for line in lines if "..." not in line)
    return [list(takewhile(lambda word: word not in ("|", ">", "&&"), words)) for words in commands]


def test_the_commands_of_the_documentation_are_parsed() -> None:
    commands = documented()
    assert len(commands) > 40
    for words in commands:
        parsed(words)


def test_values_of_other_options_and_words_after_the_dashes_are_text() -> None:
    words = ["data", "prove", "--text", "-w", "--label", "--as", "--json", "--", "--server"]
    assert parsed(words) == SharedOptions(as_json=True)


def test_the_environment_names_a_server_unless_the_command_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILORBIRD_SERVER", "https://one")
    assert parsed(["runs", "list"]).server == "https://one"
    assert parsed(["--server", "https://two", "runs", "list"]).server == "https://two"
    assert parsed(["runs", "list", "--server", "https://two"]).server == "https://two"


def test_an_option_that_means_nothing_to_a_verb_is_refused(tmp_path: Path) -> None:
    for verb, option, flag in (("serve", ["--json"], "--json"), ("worker", ["--as", "x"], "--as"), ("init", ["--key", "x"], "--key")):
        done = tailorbird(tmp_path, verb, *option)
        assert done.returncode == 2
        assert f"{flag} means nothing to {verb}" in done.stderr


def test_verbs_that_printed_text_alone_answer_json(tmp_path: Path) -> None:
    assert tailorbird(tmp_path, "init", "--tenant", "acme").returncode == 0

    def asked(*words: str) -> Any:
        done = tailorbird(tmp_path, "--json", *words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    made = asked("key", "create", "app")
    assert made["secret"].startswith("tb_")
    limited = asked("key", "limit", made["key"]["id"], "--limit", "requests_per_minute=60")
    assert limited["limits"]["requests_per_minute"] == 60
    turned = asked("key", "rotate", made["key"]["id"])
    assert asked("key", "revoke", turned["key"]["id"])["revoked_at"]
    added = asked("identity", "add", "ada", "--role", "admin")
    assert Path(added["key"]).is_file()
    assert asked("identity", "rotate", "--as", "ada")["name"] == "ada"
    assert asked("identity", "add", "cleo", "--role", "operator")["pending"]
    assert asked("identity", "confirm", "cleo", "--yes", "--as", "ada")["admitted_by"] == ["admin", "ada"]
    assert asked("identity", "disable", "ada")["disabled_at"]
    assert asked("audit", "checkpoint")["note"]
    assert asked("audit", "export", "log.jsonl")["entries"] == len((tmp_path / "log.jsonl").read_text().splitlines())


def test_a_confirmation_is_asked_for_or_told_the_key(tmp_path: Path) -> None:
    assert tailorbird(tmp_path, "init", "--tenant", "acme").returncode == 0
    for name in ("ada", "cleo"):
        assert tailorbird(tmp_path, "identity", "add", name, "--role", "admin").returncode == 0
    listed = json.loads(tailorbird(tmp_path, "--json", "identity", "list").stdout)
    mark = fingerprint(next(person["public_key"] for person in listed if person["name"] == "cleo"))
    confirm = ("identity", "confirm", "cleo", "--as", "ada")
    asked = tailorbird(tmp_path, *confirm)
    assert asked.returncode != 0
    assert "admin; signed by admin" in asked.stderr
    assert mark in asked.stderr
    other = tailorbird(tmp_path, *confirm, "--public-key", fingerprint("x"))
    assert "error[conflict]" in other.stderr
    assert mark[:9] in tailorbird(tmp_path, "identity", "list").stdout
    assert json.loads(tailorbird(tmp_path, "--json", "identity", "list").stdout)[4]["pending"]
    assert tailorbird(tmp_path, *confirm, "--public-key", mark).returncode == 0
