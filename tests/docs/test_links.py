"""Links, file names and test names in the documentation lead somewhere, and its prose is wrapped."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
)
WIDTH = 100

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(text: str) -> str:
    """The text without fenced blocks."""
    return re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", prose(page.read_text(encoding="utf-8")), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@each_page
def test_links_lead_to_files_and_headings(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text(encoding="utf-8")))
    for link in (link for link in links if "://" not in link):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@each_page
def test_files_of_the_project_that_are_named_exist(page: Path) -> None:
    named = re.findall(r"\b(?:tests|src|benchmarks|scripts|examples)/[\w/.-]*\w", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


@each_page
def test_tests_that_are_named_exist(page: Path) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text(encoding="utf-8"))
    assert [f"{file}::{name}" for file, name in named if f"def {name}(" not in (ROOT / file).read_text(encoding="utf-8")] == []


def test_the_pages_name_many_tests() -> None:
    assert sum(len(re.findall(r"`tests/[\w/]+\.py", page.read_text(encoding="utf-8"))) for page in PAGES) > 60


@each_page
def test_prose_is_wrapped(page: Path) -> None:
    """Tables, code, headings and words that cannot be broken may be longer."""
    lines = [line for line in prose(page.read_text(encoding="utf-8")).splitlines() if not line.startswith(("|", "#", "![", "    "))]
    broken = [re.sub(r"`[^`]*`|\]\([^)]*\)", "x", line) for line in lines if len(line) > WIDTH]
    assert [line for line in broken if len(line) > WIDTH] == []


def test_the_index_lists_every_design_note_with_its_title() -> None:
    folder = ROOT / "docs" / "design"
    index = (folder / "README.md").read_text(encoding="utf-8")
    listed = {(name, " ".join(title.split())) for title, name in re.findall(r"^- \[([^\]]+)\]\(([\w-]+\.md)\):", index, flags=re.M)}
    titles = {
        (page.name, page.read_text(encoding="utf-8").partition("\n")[0][2:]) for page in folder.glob("*.md") if page.name != "README.md"
    }
    assert listed == titles


def test_the_index_of_the_documentation_lists_every_page_with_its_title() -> None:
    folder = ROOT / "docs"
    index = (folder / "README.md").read_text(encoding="utf-8")
    listed = {(name, title) for title, name in re.findall(r"^- \[([^\]]+)\]\(([\w/-]+\.md)\)$", index, flags=re.M)}
    pages = {str(page.relative_to(folder)): page for page in folder.rglob("*.md")}
    titles = {
        (name, re.findall(r"^# (.+)$", page.read_text(encoding="utf-8"), flags=re.M)[0])
        for name, page in pages.items()
        if not name.startswith("design/") and name != "README.md"
    }
    assert listed == titles


def test_how_to_pages_hold_one_task() -> None:
    texts = {page.name: page.read_text(encoding="utf-8").replace("|", " ") for page in (ROOT / "docs" / "howto").glob("*.md")}
    pages = {name: len(text.split()) for name, text in texts.items()}
    assert {name: words for name, words in pages.items() if words > 800} == {}


def test_design_notes_are_few_and_short() -> None:
    notes = [page.read_text(encoding="utf-8") for page in (ROOT / "docs" / "design").glob("*.md")]
    assert len(notes) <= 16
    assert sum(len(note.split()) for note in notes) <= 15_000
