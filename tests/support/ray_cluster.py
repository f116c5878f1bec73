"""A Ray cluster of raylets on this machine, in a network namespace of its own: Ray's ports listen beyond loopback."""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PORT = 6399
#: Bytes that each raylet says it has, and of those that hold answers.
MEMORY, ANSWERS = 6 << 30, 100 << 20


def demand_namespace() -> None:
    """Raises where a network could be reached, or processes of others could: such tests run by ``make ray``."""
    names = [name for _, name in socket.if_nameindex()]
    assert names == ["lo"], f"Ray would listen on {names}: run these tests by make ray"


@dataclass
class RayCluster:
    """Raylets at 127.0.0.1 (the head), 127.0.0.2, …; ``environment`` is that of processes that use the cluster."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        demand_namespace()
        token = self.folder / "token"
        token.write_text(secrets.token_hex(16))
        token.chmod(0o600)
        self.environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "TAILORBIRD_RAY_ADDRESS": self.address,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT / 'src'}:{ROOT / 'tests'}",
        }

    @property
    def address(self) -> str:
        return f"127.0.0.1:{PORT}"

    def start(self, number: int, cores: int = 1, memory: int = MEMORY, host: str = "") -> None:
        """Starts raylet ``number`` (1: the head); with ``host`` as if on a machine of that name."""
        joins = ["--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={self.folder / 'ray'}"]
        joins = joins if number == 1 else [f"--address={self.address}"]
        sizes = [f"--num-cpus={cores}", f"--memory={memory}", f"--object-store-memory={ANSWERS}", "--num-gpus=0"]
        command = ["ray", "start", *joins, f"--node-ip-address=127.0.0.{number}", *sizes, "--disable-usage-stats"]
        if host:
            command = ["unshare", "--uts", "bash", "-c", f'hostname {host}; exec "$@"', "bash", *command]
        done = subprocess.run(command, env=os.environ | self.environment, capture_output=True, text=True, check=False, timeout=90)
        assert done.returncode == 0, done.stdout + done.stderr

    def pids(self, program: str, number: int | None = None) -> list[int]:
        """Processes of the cluster whose command line has ``program`` and, where given, the address of raylet ``number``."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if program in line and (number is None or f"127.0.0.{number} " in f"{line} ") and int(folder.name) != os.getpid():
                found.append(int(folder.name))
        return found

    def end(self, number: int) -> None:
        """SIGKILL to raylet ``number`` and to all that it started: as if its machine were gone."""
        raylets = self.pids("raylet/raylet", number)
        assert raylets, f"no raylet {number}"
        for pid in raylets:
            for child in (*children(pid), pid):
                _kill(child)

    def numbers(self) -> set[int]:
        """The numbers of the living raylets."""
        lines = list[str]()
        for pid in self.pids("raylet/raylet"):
            with suppress(OSError):
                lines.append(Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace"))
        return {int(number) for line in lines for number in re.findall(r"node_ip_address=127\.0\.0\.(\d+)", line)}

    def clear(self) -> None:
        """Kills all that belongs to the cluster."""
        for program in ("ray::", "raylet", "gcs_server", "ray/_private", "ray/dashboard"):
            self.kill(program)

    def raylet_of(self, pid: int) -> int:
        """The number of the raylet that started process ``pid``."""
        parent = Path(f"/proc/{parent_of(pid)}/cmdline").read_bytes().decode(errors="replace")
        (found,) = set(re.findall(r"node_ip_address=127\.0\.0\.(\d+)", parent))
        return int(found)

    def kill(self, program: str, number: int | None = None) -> int:
        """SIGKILL to those; how many they were."""
        pids = self.pids(program, number)
        for pid in pids:
            _kill(pid)
        return len(pids)


def _kill(pid: int) -> None:
    """SIGKILL, unless it ended meanwhile: one that is killed takes others with it."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def parent_of(pid: int) -> int:
    """The process that started ``pid``; 0 where it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def children(pid: int) -> list[int]:
    """What ``pid`` started."""
    return [found for found in (int(folder.name) for folder in Path("/proc").glob("[0-9]*")) if parent_of(found) == pid]


def await_stop(pid: int, seconds: float = 60) -> None:
    """Until ``pid`` has stopped."""
    deadline = time.monotonic() + seconds
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < deadline, f"{pid} does not stop"
        time.sleep(0.02)


def await_end(pid: int, seconds: float = 60) -> None:
    """Until there is no process ``pid``, or it has ended and nobody has asked how."""
    deadline = time.monotonic() + seconds
    while (stat := Path(f"/proc/{pid}/stat")).exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline, f"{pid} does not end"
        time.sleep(0.02)


@contextmanager
def ray_cluster(folder: Path, *cores: int) -> Iterator[RayCluster]:
    """A cluster of one raylet for each number of ``cores``."""
    cluster = RayCluster(folder)
    try:
        for number, each in enumerate(cores, 1):
            cluster.start(number, each)
        yield cluster
    finally:
        cluster.clear()
