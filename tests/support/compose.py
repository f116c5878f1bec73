"""Services of ``deploy/compose.yaml`` as plain processes: their command lines and environments, with hosts and paths of this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "deploy" / "compose.yaml"
#: Where the image has the workspace, and compose mounts secrets.
WORKSPACE, SECRETS = "/var/lib/tailorbird", "/run/secrets"


def image_environment(containerfile: Path = ROOT / "deploy" / "Containerfile") -> dict[str, str]:
    """What the last stage of the image sets with ``ENV``."""
    text = containerfile.read_text(encoding="utf-8").rpartition("\nFROM ")[2].replace("\\\n", " ")
    lines = [line.removeprefix("ENV ") for line in text.splitlines() if line.startswith("ENV ")]
    return dict(pair.split("=", 1) for line in lines for pair in line.split())


def expanded(value: Any, variables: Mapping[str, str]) -> Any:
    """``value`` with ``${NAME}``, ``${NAME:-default}`` and ``${NAME:?message}`` as compose reads them."""
    if isinstance(value, dict):
        return {key: expanded(part, variables) for key, part in value.items()}
    if isinstance(value, list):
        return [expanded(part, variables) for part in value]
    if not isinstance(value, str):
        return value

    def replace(found: re.Match[str]) -> str:
        name, kind, rest = found["name"], found["kind"] or "", found["rest"] or ""
        given = variables.get(name, "")
        if not given and kind == ":?":
            raise KeyError(f"{name}: {rest}")
        return given or (rest if kind == ":-" else "")

    pattern = r"\$\$|\$\{(?P<name>\w+)(?:(?P<kind>:-|:\?)(?P<rest>[^}]*))?\}"
    return re.sub(pattern, lambda found: "$" if found[0] == "$$" else replace(found), value)


class Compose:
    """``folder`` holds volumes and secrets; ``hosts`` says what stands here in place of texts of the file."""

    def __init__(self, folder: Path, hosts: Mapping[str, str], variables: Mapping[str, str]) -> None:
        self.folder = folder
        self.hosts = dict(hosts)
        self.services: dict[str, Any] = expanded(yaml.safe_load(FILE.read_text(encoding="utf-8")), variables)["services"]

    def volume(self, name: str) -> Path:
        """The folder of a volume, made as an empty volume takes over the image's folder: for its owner alone."""
        path = self.folder / "volumes" / name
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def here(self, service: str, text: str) -> str:
        """``text`` of a service with the paths and hosts of this machine."""
        mounts = [mount.split(":")[:2] for mount in self.services[service].get("volumes", ())]
        paths = {target: str(self.volume(name)) for name, target in mounts if "/" not in name}
        for former, now in (*self.hosts.items(), *paths.items(), (SECRETS, str(self.folder / "secrets"))):
            text = text.replace(former, now)
        return text

    def environment(self, service: str) -> dict[str, str]:
        """What the service's process finds: the image's variables, then its own."""
        own = image_environment() | self.services[service].get("environment", {})
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TAILORBIRD_", "AWS_", "PG"))}
        set_here = {name: self.here(service, value) for name, value in own.items() if value and name != "PATH"}
        ours = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "COLUMNS": "140", "NO_COLOR": "1"}
        return kept | set_here | ours | {"TAILORBIRD_FETCH_ENCODER": "false"}  # 91 MB that no test fetches

    def command(self, service: str, *arguments: str) -> list[str]:
        """The command line: the image's or the service's entry point, then ``arguments`` or the service's own."""
        told = self.services[service]
        program = told.get("entrypoint") or [sys.executable, "-m", "tailorbird.cli.main"]
        return [self.here(service, part) for part in (*program, *(arguments or told.get("command", ())))]

    def start(self, service: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Starts the service where its workspace is."""
        place = Path(self.here(service, WORKSPACE))
        return subprocess.Popen(
            self.command(service, *arguments), env=self.environment(service), cwd=place if place.is_dir() else None, text=True, **options
        )

    def run(self, service: str, *arguments: str) -> str:
        """Runs the service, or ``arguments`` in its place, to its end, which must be a good one; what it printed."""
        process = self.start(service, *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, f"{service} {' '.join(arguments)} ended with {process.returncode}:\n{err[-3000:]}"
        return out
