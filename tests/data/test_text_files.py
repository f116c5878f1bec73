"""Text files and folders of them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from support.data_files import read, write_folder
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.data.readers import data_file
from tailorbird.data.readers.data_file import guess_encoding


def test_a_folder_sets_aside_what_is_no_text(tmp_path: Path) -> None:
    write_folder(tmp_path / "d")
    (tmp_path / "d" / "a" / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "d" / "a" / "nul.txt").write_bytes(b"a\0b")
    (tmp_path / "d" / "a" / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "d" / "a" / "blank.txt").write_text(" \n")
    (tmp_path / "d" / "no label.txt").write_text("a text without a label")
    (tmp_path / "d" / ".hidden.txt").write_text("not a row")
    (tmp_path / "d" / "b" / "deep").mkdir()
    (tmp_path / "d" / "b" / "deep" / "x.TXT").write_text("\ufeffa deep one")
    found = read(tmp_path, "d")
    assert sorted((entry.file, entry.line, entry.code) for entry in found.quarantined) == [
        ("d/a/blank.txt", 1, "empty_text"),
        ("d/a/latin.txt", 1, "file_encoding"),
        ("d/a/nul.txt", 1, "file_binary"),
        ("d/a/picture.png", 1, "file_kind"),
        ("d/no label.txt", 1, "missing_cell"),
    ]
    assert (len(found.rows), found.read) == (21, {"d": 26})
    deep = next(row for row in found.rows if row.text == "a deep one")
    assert (deep.target, deep.provenance.file) == ("b", "d/b/deep/x.TXT")
    assert deep.provenance.file_digest == digest_bytes("\ufeffa deep one".encode())


def test_links_do_not_lead_out_of_a_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "d")
    (tmp_path / "secret.txt").write_text("not of this folder")
    (tmp_path / "d" / "a" / "link.txt").symlink_to(tmp_path / "secret.txt")
    assert len(read(tmp_path, "d").rows) == 20


LETTERS = {
    "cp1251": "Где мой заказ 17, прошу ответить,доставка\nНеверный СЧЁТ на сумму 20 рублей,оплата\n",
    "cp932": "注文はどこですか、お願いします,配送\n請求書の金額が違います,請求\n",
}


@pytest.mark.parametrize("encoding", LETTERS)
def test_legacy_encodings_of_other_scripts_are_not_guessed(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "d.csv").write_bytes(("text,label\n" + LETTERS[encoding]).encode(encoding))
    assert guess_encoding(tmp_path / "d.csv") is None


def test_a_zip_bomb_and_a_text_that_is_too_large_in_a_folder_are_set_aside_unread(tmp_path: Path) -> None:
    write_folder(tmp_path / "d")
    with zipfile.ZipFile(tmp_path / "d" / "a" / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.txt", b"\0" * 50_000_000)
    (tmp_path / "d" / "a" / "huge.txt").write_text("x" * (data_file.LARGEST + 1))
    found = read(tmp_path, "d")
    assert [(entry.file, entry.code) for entry in found.quarantined] == [("d/a/bomb.zip", "file_kind"), ("d/a/huge.txt", "file_too_large")]
    assert len(found.rows) == 20
