"""Builds of one version are told apart by their files, and the same files are the same build."""

from __future__ import annotations

import re
from pathlib import Path

import tailorbird
from tailorbird.system.process import build_name, source_digest


def test_the_name_is_the_version_and_a_digest_of_the_files() -> None:
    assert build_name() == f"{tailorbird.__version__}+{source_digest(Path(tailorbird.__file__).parent)}"
    assert re.fullmatch(r"\d+\.\d+\.\d+\+[0-9a-f]{12}", build_name())


def test_an_edited_added_or_renamed_file_is_another_build(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "inner" / "b.html").write_text("<p>")
    seen = [source_digest(tmp_path)]
    (tmp_path / "a.py").write_text("x = 2\n")
    seen.append(source_digest(tmp_path))
    (tmp_path / "inner" / "c.py").write_text("")
    seen.append(source_digest(tmp_path))
    (tmp_path / "inner" / "c.py").rename(tmp_path / "inner" / "d.py")
    seen.append(source_digest(tmp_path))
    assert len(set(seen)) == 4
