"""How the threads of this process wait for one another.

In: the environment. Out: the environment as OpenMP reads it when torch is loaded. Must not know: torch, what is computed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, MutableMapping

#: Rounds that a thread spins at a barrier before it sleeps: some microseconds, where libgomp's own default is milliseconds.
SPINS = "1000"
#: What a user sets to choose otherwise.
_CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
#: The longest spin that is still sleeping, in rounds.
_BRIEF = 10_000

#: Whether torch was there before the choice was made: it had read the environment as it was then.
_late = [False]


def wait_passively(environment: MutableMapping[str, str] = os.environ) -> None:
    """Lets threads sleep at a barrier instead of spinning, unless the user chose how they wait. To be called before torch is loaded.

    Where other processes want the cores, a thread that spins takes the time that the thread it waits for needs. Processes that are started
    from here inherit it. GNU's OpenMP (libgomp), which torch brings on Linux, reads the variable once, when it is loaded.
    """
    if not any(environment.get(name) for name in _CHOICES):
        environment["GOMP_SPINCOUNT"] = SPINS
        _late[0] = "torch" in sys.modules


def sleeps(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the threads of this process sleep while they wait, as far as the environment tells."""
    spins = environment.get("GOMP_SPINCOUNT", "")
    brief = spins.isdecimal() and int(spins) <= _BRIEF if spins else environment.get("OMP_WAIT_POLICY", "").lower() == "passive"
    return brief and not _late[0]
