"""The page on training names every finding of the doctor, and none that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

from tailorbird.domain.objective import AdapterWishes
from tailorbird.training.methods import methods

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


def documented() -> dict[str, str]:
    """Codes of the table, with their severity."""
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| (blocking|warning|note) \|", PAGE, flags=re.MULTILINE)
    return {code: severity for codes, severity in rows for code in re.findall(r"\w+", codes)}


def test_every_finding_is_on_the_page_with_its_severity() -> None:
    folder = ROOT / "src" / "tailorbird" / "training"
    source = "".join(path.read_text(encoding="utf-8") for path in (folder / "preflight").glob("*.py"))
    found = {code: kind for kind, code in re.findall(r'\b(blocking|warning)\("(\w+)"', source)}
    assert len(found) > 12
    assert found.items() <= documented().items()
    everything = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.py"))
    assert [code for code in documented() if f'"{code}"' not in everything] == []


def test_every_method_and_option_is_on_the_page() -> None:
    for name in (*methods(), *AdapterWishes.model_fields):
        assert f"| `{name}` |" in PAGE, name
