"""Writes the locks of the container image, ``deploy/requirements``: parts of requirements.lock that an image needs, and nothing newer.

``runtime.lock`` has what the extras need that run, ``build.lock`` what builds the wheel. torch and Ray have locks of their own, which are
compiled (``make lock`` says how). Needs the environment of ``make setup``, whose metadata say who needs whom.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "deploy" / "requirements"
#: What an image is for.
EXTRAS = ("local", "data", "postgres", "s3")
HEADER = "# Made by `make lock` from requirements.lock. Install with --no-deps --require-hashes.\n"


def locked() -> dict[str, str]:
    """The blocks of requirements.lock by the name of their package."""
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    blocks = re.findall(r"^[A-Za-z0-9][^\n]*==[^\n]*\\\n(?:    --hash[^\n]*\n?)+", text, flags=re.M)
    return {canonicalize_name(block.partition("==")[0]): block for block in blocks}


def needed(roots: Iterable[Requirement]) -> set[str]:
    """Names of ``roots`` and of all that they need here, with their extras."""
    found: set[tuple[str, str]] = set()
    waiting = list(roots)
    while waiting:
        asked = waiting.pop()
        name = canonicalize_name(asked.name)
        for extra in ("", *asked.extras):
            if (name, extra) in found:
                continue
            found.add((name, extra))
            try:
                told = requires(name) or []
            except PackageNotFoundError:
                continue
            parts = map(Requirement, told)
            waiting += [part for part in parts if part.marker is None or part.marker.evaluate({"extra": extra})]
    return {name for name, _ in found}


def lock(roots: Iterable[Requirement]) -> str:
    """The blocks of what ``roots`` need, as far as requirements.lock has them: torch and its own needs it leaves out."""
    names, blocks = needed(roots), locked()
    return HEADER + "".join(block for name, block in blocks.items() if name in names)


def locks() -> dict[str, str]:
    """Text of each lock by the name of its file."""
    return {
        "runtime.lock": lock([Requirement(f"tailorbird[{','.join(EXTRAS)}]")]),
        "build.lock": lock([Requirement("hatchling")]),
    }


def main() -> int:
    """Writes both."""
    for name, text in locks().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
