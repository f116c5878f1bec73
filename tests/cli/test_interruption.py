"""Exit of a command while a thread computes in native code."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: A thread that is in native code and calls back into Python, as one that trains is.
_COMPUTING = """
import threading, time
import torch
from tailorbird.cli import main

class Slow(torch.autograd.Function):
    @staticmethod
    def forward(context, value):
        return value.clone()

    @staticmethod
    def backward(context, gradient):
        time.sleep(0.02)
        return gradient

def compute():
    while True:
        Slow.apply(torch.ones(1, requires_grad=True)).backward()

threading.Thread(target=compute, daemon=True).start()
time.sleep(0.2)

def app(**_):
    print("kept")
    {end}

main.app = app
main.main()
"""


@pytest.mark.parametrize(
    ("end", "status"),
    [("raise KeyboardInterrupt", 130), ("raise SystemExit(0)", 0), ("raise SystemExit(4)", 4)],
    ids=["interrupted", "done", "exit"],
)
def test_a_computing_thread_does_not_abort_a_command_that_ends(end: str, status: int) -> None:
    done = subprocess.run([sys.executable, "-c", _COMPUTING.replace("{end}", end)], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (status, "kept\n")
    assert done.stderr == ("interrupted: run the same command again, it goes on where it stopped\n" if status == 130 else "")
