"""Every text of a file is told, so that a person's words are found in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tailorbird.data import file_texts

SAID = "my card was stolen\nlast night in Berlin"


@pytest.mark.parametrize(
    "content",
    [
        f'text,label\n"{SAID}",lost\n',
        f'[text],[label]\n"{SAID}",lost\n',
        f'{{text}},label\n"{SAID}",lost\n',
        json.dumps({"text": SAID}) + "\n",
        "\n" * 5000 + json.dumps({"text": SAID}) + "\n",
        "\n" * 5000 + f'text,label\n"{SAID}",lost\n',
        json.dumps([{"text": SAID}]),
        " " * 5000 + json.dumps([{"text": SAID}]),
        json.dumps({"data": [{"text": SAID}]}),
    ],
)
def test_a_cell_of_several_lines_is_told_however_its_file_begins(tmp_path: Path, content: str) -> None:
    path = tmp_path / "file"
    path.write_text(content, encoding="utf-8")
    assert SAID in set(file_texts(path, "an uploaded file"))
