"""How threads wait is chosen before torch is loaded, in every process that computes, and a user's own choice stands."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tailorbird.foundations import threads

SEEN = """
import os, sys
import {module}
print(os.environ.get("GOMP_SPINCOUNT"), "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("chosen", "sleeps"), [("OMP_WAIT_POLICY=active", False), ("OMP_WAIT_POLICY=PASSIVE", True), ("GOMP_SPINCOUNT=7", True)]
)
def test_a_choice_of_the_user_stands(chosen: str, sleeps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_late", [False])
    name, _, value = chosen.partition("=")
    environment = {name: value}
    threads.wait_passively(environment)
    assert environment == {name: value}
    assert threads.sleeps(environment) is sleeps


@pytest.mark.parametrize("spins", ["infinity", "300000"])
def test_long_spins_are_no_sleep(spins: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_late", [False])
    assert not threads.sleeps({"GOMP_SPINCOUNT": spins})
    assert threads.sleeps({"GOMP_SPINCOUNT": threads.SPINS})


def test_where_torch_was_there_first_threads_are_known_to_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_late", [False])
    monkeypatch.setitem(sys.modules, "torch", threads)
    environment: dict[str, str] = {}
    threads.wait_passively(environment)
    assert environment == {"GOMP_SPINCOUNT": threads.SPINS}, "processes that are started from here sleep"
    assert not threads.sleeps(environment)


@pytest.mark.parametrize("module", ["tailorbird.training.member", "tailorbird.training.loop", "tailorbird.inference"])
def test_whatever_loads_torch_has_chosen_before(module: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    before = """
import builtins
real = builtins.__import__
def spy(name, *rest, **more):
    if name == "torch" and "torch" not in sys.modules:
        print("then", os.environ.get("GOMP_SPINCOUNT"))
    return real(name, *rest, **more)
builtins.__import__ = spy
"""
    code = "import os, sys\n" + before + SEEN.format(module=module)
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    assert said[0] == f"then {threads.SPINS}"
    assert said[-1] == f"{threads.SPINS} True"
