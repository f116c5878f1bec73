"""Kind of this machine's processor: what is timed by one kind says nothing of another."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

_TOLD = Path("/proc/cpuinfo")


@cache
def processor_name() -> str:
    """Its model, with the numbers of family and model where there are any: virtual machines tell several kinds by one name."""
    try:
        lines = _TOLD.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return read_processor(lines) or platform.processor() or platform.machine()


def read_processor(lines: list[str]) -> str:
    """The same of the first processor in Linux's list; empty where that names none (as on ARM, where implementer and part do)."""
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    if "model name" in fields and "model" in fields:
        return f"{fields['model name']} (family {fields.get('cpu family', '?')}, model {fields['model']})"
    if "CPU part" in fields:
        return f"{platform.machine()} (implementer {fields.get('CPU implementer', '?')}, part {fields['CPU part']})"
    return fields.get("model name", "")
