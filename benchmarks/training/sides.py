"""Runs workers side by side, one step of one of them at a time.

In: specs. Out: what each worker measured, step by step. Must not know: what is compared with what.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from workload import Spec

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PEER_VENV = ROOT / ".cache" / "peers" / "training"
PEER_NEEDS = ("torch>=2.9,<3", "trl==1.16.*", "peft==0.21.*", "transformers==5.24.*", "bitsandbytes>=0.46", "psutil>=7")
#: Steps that are not counted: kernels are chosen, memory is grown.
WARM_UP = 3


@dataclass
class Measured:
    """What a worker said."""

    spec: Spec
    steps: list[dict[str, float]] = field(default_factory=list)
    done: dict[str, Any] = field(default_factory=dict)
    first_step_seconds: float = 0.0

    @property
    def steady(self) -> list[dict[str, float]]:
        """Steps after the warm-up."""
        return self.steps[WARM_UP:]

    @property
    def tokens_per_second(self) -> float:
        """Median over steady steps; tokens of prompts and answers, no padding."""
        return median(step["tokens"] / step["seconds"] for step in self.steady)

    @property
    def tokens_per_cpu_second(self) -> float:
        """The same by the processor time of all threads, which a busy machine disturbs less."""
        return median(step["tokens"] / step["cpu_seconds"] for step in self.steady)

    @property
    def memory(self) -> float:
        """Peak above the loaded model, in GiB."""
        return float(self.done["memory"])


def make_peer_environment() -> Path:
    """The peer's interpreter, in an environment that is made once."""
    python = PEER_VENV / "bin" / "python"
    if not (PEER_VENV / "ready").is_file():
        say("making the environment of the peer, once")
        subprocess.run([sys.executable, "-m", "venv", str(PEER_VENV)], check=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", "--progress-bar", "off", *PEER_NEEDS], check=True, stdout=sys.stderr
        )
        (PEER_VENV / "ready").touch()
    return python


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


class Others:
    """How much of the cores processes take that are not among ``pids``: what the system counts, without what those are charged, and what
    processes that they started and waited for were."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids

    def begin(self) -> None:
        """From here on."""
        self._started, self._busy, self._ours = time.monotonic(), _busy_ticks(), self._charged()

    def share(self) -> float:
        """Of all cores, since ``begin``."""
        passed = (time.monotonic() - self._started) * os.sysconf("SC_CLK_TCK") * len(os.sched_getaffinity(0))
        return max(0.0, (_busy_ticks() - self._busy) - (self._charged() - self._ours)) / passed

    def _charged(self) -> int:
        return sum(sum(map(int, _stat(pid)[11:15])) for pid in self._pids)


def _busy_ticks() -> int:
    user, nice, system, _, _, irq, softirq, steal, *_ = map(int, Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:])
    return user + nice + system + irq + softirq + steal


def _stat(pid: int) -> list[str]:
    """Fields of proc(5) from the third on."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()


class Worker:
    """A side in a process of its own."""

    def __init__(self, spec: Spec, environment: Mapping[str, str] | None = None) -> None:
        python = make_peer_environment() if spec.side == "trl" else Path(sys.executable)
        script = HERE / ("peer.py" if spec.side == "trl" else "own.py")
        self.measured = Measured(spec)
        self._born = time.perf_counter()
        shutil.rmtree(spec.out, ignore_errors=True)
        Path(spec.out).mkdir(parents=True)
        self._log = (Path(spec.out) / "log.txt").open("w", encoding="utf-8")
        self._process = subprocess.Popen(
            [str(python), str(script), spec.dump()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=_environment(spec) | dict(environment or {}),
            text=True,
        )

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def stop(self) -> None:
        """Ends it in the middle."""
        self._process.kill()
        self._process.wait()
        self._log.close()

    def prepare(self) -> None:
        """Until it is ready for its first step."""
        self._hear("ready")

    def step(self) -> dict[str, float]:
        """One step; afterwards it is ready for the next, or done."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        step = self._hear("step")
        step.pop("event")
        self.measured.steps.append(step)
        if len(self.measured.steps) == 1:
            self.measured.first_step_seconds = time.perf_counter() - self._born
        last = len(self.measured.steps) == self.measured.spec.steps
        heard = self._hear("done" if last else "ready")
        if last:
            self.measured.done = heard
        return step

    def end(self) -> None:
        """Lets it go."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._log.close()

    def _hear(self, event: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.measured.spec.name} ended early; see {self._log.name}")
        said: dict[str, Any] = json.loads(line)
        if said["event"] != event:
            raise SystemExit(f"{self.measured.spec.name} said {said['event']} where {event} was awaited")
        return said


def _environment(spec: Spec) -> dict[str, str]:
    offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": str(spec.threads), "PYTHONUNBUFFERED": "1"}
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH" or spec.side != "trl"}
    return kept | offline


def side_by_side(specs: Sequence[Spec], environments: Sequence[Mapping[str, str]] = ()) -> list[Measured]:
    """All of ``specs``, each one step in turn, so that a change of the machine's load meets all of them; ``environments`` are variables
    that each is given besides."""
    workers = []
    for spec, environment in zip(specs, environments or [{}] * len(specs), strict=True):
        worker = Worker(spec, environment)
        worker.prepare()
        workers.append(worker)
    others = Others([os.getpid(), *(worker.pid for worker in workers)])
    for number in range(max(spec.steps for spec in specs)):
        for worker in workers:
            if number < worker.measured.spec.steps:
                others.begin()
                step = worker.step()
                step["others"] = others.share()
                say(f"  step {number + 1:2} {worker.measured.spec.name:32} {step['tokens'] / step['seconds']:7.0f} tokens/s")
    for worker in workers:
        worker.end()
    return [worker.measured for worker in workers]
