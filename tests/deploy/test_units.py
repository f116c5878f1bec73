"""systemd units: known commands and variables, and as little as a process may have."""

from __future__ import annotations

import shlex
from collections import defaultdict
from pathlib import Path

import pytest

from support.deploy import DEPLOY, check_command, check_environment

FOLDER = DEPLOY / "systemd"
SERVICES = sorted(path.name for path in FOLDER.glob("*.service"))
PROGRAM = "/opt/tailorbird/bin/tailorbird"


def unit(name: str) -> dict[str, list[str]]:
    """Values by key, whatever the section."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
        key, sign, value = line.partition("=")
        if sign and not line.startswith("#"):
            found[key].append(value)
    return found


def test_there_is_a_unit_for_each_process() -> None:
    assert [f"tailorbird-{name}.service" for name in ("backup", "gateway", "migrate", "worker")] == SERVICES


@pytest.mark.parametrize("name", SERVICES)
def test_it_runs_a_command_of_the_product(name: str) -> None:
    (line,) = unit(name)["ExecStart"]
    program, *arguments = shlex.split(line)
    assert program == PROGRAM
    check_command(arguments)


@pytest.mark.parametrize("name", SERVICES)
def test_it_is_nobody_s_user_with_a_folder_of_its_own(name: str) -> None:
    told = unit(name)
    wanted = {
        "User": "tailorbird",
        "UMask": "0077",
        "StateDirectory": "tailorbird",
        "StateDirectoryMode": "0700",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
        "PrivateDevices": "yes",
        "CapabilityBoundingSet": "",
        "RestrictSUIDSGID": "yes",
        "SystemCallArchitectures": "native",
    }
    assert {key: told[key] for key in wanted} == {key: [value] for key, value in wanted.items()}
    assert told["SystemCallFilter"][0].startswith("@system-service")
    assert "DynamicUser" not in told


@pytest.mark.parametrize("name", SERVICES)
def test_its_variables_are_settings(name: str, tmp_path: Path) -> None:
    check_environment(dict(pair.split("=", 1) for told in unit(name)["Environment"] for pair in told.split()), tmp_path)


@pytest.mark.parametrize("role", ["gateway", "worker", "owner"])
def test_examples_of_its_environment_name_files_and_hold_no_secret(role: str, tmp_path: Path) -> None:
    lines = [line for line in (FOLDER / f"{role}.env").read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    environment = dict(line.split("=", 1) for line in lines)
    check_environment(environment, tmp_path)
    assert environment["PGPASSFILE"] == f"/etc/tailorbird/{role}.pgpass"


def test_each_process_reads_the_environment_of_its_own_role() -> None:
    roles = {"backup": "owner", "migrate": "owner", "gateway": "gateway", "worker": "worker"}
    for name, role in roles.items():
        assert unit(f"tailorbird-{name}.service")["EnvironmentFile"] == [f"-/etc/tailorbird/{role}.env"]


@pytest.mark.parametrize("name", ["gateway", "worker"])
def test_it_ends_as_it_is_written_to_end(name: str) -> None:
    told = unit(f"tailorbird-{name}.service")
    assert told["KillMode"] == ["mixed"]
    assert int(told["TimeoutStopSec"][0]) > 30
    assert told["Requires"] == ["tailorbird-migrate.service"]
    assert "tailorbird-migrate.service" in told["After"][0].split()


@pytest.mark.parametrize("name", ["gateway", "worker"])
def test_confined_processes_may_confine_themselves(name: str) -> None:
    told = unit(f"tailorbird-{name}.service")
    assert set(told["RestrictNamespaces"][0].split()) == {"user", "net"}
    assert "@sandbox" in told["SystemCallFilter"][0].split()
