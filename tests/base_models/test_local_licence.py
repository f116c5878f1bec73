"""The licence of a local model comes from its own files."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tailorbird.base_models import known_facts, licence_of

FILES = [
    ({"README.md": "---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n"}, "apache-2.0"),
    ({"README.md": "---\r\nlicense:\r\n- mit\r\n---\r\n"}, "mit"),
    ({"README.md": "license: mit\n"}, "unknown"),
    ({"README.md": "---\nlicense: other\n---\n"}, "unknown"),
    ({"config.json": '{"license": "mit"}'}, "mit"),
    ({}, "unknown"),
]


@pytest.mark.parametrize(("files", "licence"), FILES)
def test_the_licence_of_a_folder(tmp_path: Path, files: dict[str, str], licence: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert licence_of(tmp_path) == known_facts(str(tmp_path), tmp_path / "cache").license == licence


def gguf(*facts: tuple[str, str]) -> bytes:
    """The header of a GGUF file that says ``facts``."""
    strings = [part for fact in facts for part in fact]
    told = [struct.pack("<Q", len(text)) + text.encode() for text in strings]
    pairs = b"".join(key + struct.pack("<I", 8) + value for key, value in zip(told[::2], told[1::2], strict=True))
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(facts)) + pairs


@pytest.mark.parametrize(
    ("content", "licence"),
    [
        (gguf(("general.architecture", "llama"), ("general.license", "apache-2.0"), ("general.name", "x")), "apache-2.0"),
        (gguf(("general.architecture", "llama")), "unknown"),
        (gguf(("general.license", "a word and more")), "unknown"),
        (gguf(("general.license", "mit"))[:-3], "unknown"),
        (b"", "unknown"),
    ],
    ids=["named", "silent", "words", "cut", "empty"],
)
def test_the_licence_of_a_gguf_file(tmp_path: Path, content: bytes, licence: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    assert licence_of(path) == licence
