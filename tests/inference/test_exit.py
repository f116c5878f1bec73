"""A process that ends while something is computed ends with its own status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from support.model_families import write_family

ENDS = """
import sys, threading, torch
from pathlib import Path
from support.oracle import conversation, servable
from tailorbird.domain.prompt import Sampling
from tailorbird.inference import open_engine
from tailorbird.inference.model_runner import ModelRunner
from tailorbird.ports.engine import GenerateRequest

compute, begun, square = ModelRunner.compute, threading.Event(), torch.ones(2048, 2048)

def slow(self, step):
    begun.set()
    for _ in range(4):
        torch.mm(square, square)  # without Python's lock, as in any step
    return compute(self, step)

ModelRunner.compute = slow
engine = open_engine("fp32", "plain")
base = servable(Path(sys.argv[1]), "a")
engine.load(base)
request = GenerateRequest(release=base.id, prompt=tuple(conversation("hello")), sampling=Sampling(max_tokens=50))
engine.submit(request, lambda told: True)
assert begun.wait(60)
raise KeyboardInterrupt
"""


def test_an_interrupt_in_the_middle_of_a_step(tmp_path: Path) -> None:
    base = write_family(tmp_path / "base", "llama")
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", ENDS, str(base)], capture_output=True, text=True, check=False, env=paths)
    assert "terminate called" not in done.stderr
    assert done.returncode in (-signal.SIGINT, 128 + signal.SIGINT), done.stderr
