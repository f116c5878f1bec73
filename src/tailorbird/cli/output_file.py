"""Files that a verb writes: their ending says in which form."""

from __future__ import annotations

from pathlib import Path

from tailorbird.domain.errors import InvalidInput


def demand_ending(file: Path | None, *endings: str) -> None:
    """Returns where the name ends in one of ``endings``: asked before the work, so that nothing is computed for a file that would hold
    something else than its name says. Raises InvalidInput (``file_ending``)."""
    if file is not None and file.suffix.lower() not in endings:
        forms = " or ".join(endings)
        raise InvalidInput(f"{file}: this is written as {forms}", f"give the file a name that ends in {forms}", code="file_ending")
