"""Text files and folders of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.data import make_objective
from support.data_files import read, refused, write_folder
from tailorbird.crypto.canonical_json import digest_bytes
from tailorbird.data import fingerprint_sources
from tailorbird.data.readers.data_file import guess_encoding
from tailorbird.domain.errors import DataInvalid
from tailorbird.domain.objective import TaskKind


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


def test_the_digest_of_a_folder_covers_names_and_bytes(tmp_path: Path) -> None:
    objective = make_objective({"path": "d"})
    write_folder(tmp_path / "d")
    first = fingerprint_sources(objective, tmp_path)
    (tmp_path / "d" / "a" / "00.txt").rename(tmp_path / "d" / "b" / "00.txt")
    second = fingerprint_sources(objective, tmp_path)
    (tmp_path / "d" / "b" / "00.txt").write_text("other words")
    assert len({*first.values(), *second.values(), *fingerprint_sources(objective, tmp_path).values()}) == 3


def test_a_folder_has_no_answers_no_subjects_and_must_have_texts(tmp_path: Path) -> None:
    write_folder(tmp_path / "d")
    with pytest.raises(DataInvalid, match="no answers"):
        read(tmp_path, "d", TaskKind.GENERATE)
    assert refused(tmp_path, "d", subject="who").error_code == "column_missing"
    (tmp_path / "empty").mkdir()
    assert refused(tmp_path, "empty").error_code == "data_invalid"


def test_links_do_not_lead_out_of_a_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "d")
    (tmp_path / "secret.txt").write_text("not of this folder")
    (tmp_path / "d" / "a" / "link.txt").symlink_to(tmp_path / "secret.txt")
    assert len(read(tmp_path, "d").rows) == 20


def test_a_mostly_unusable_folder_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "d")
    for number in range(30):
        (tmp_path / "d" / f"{number}.bin").write_bytes(b"x")
    assert refused(tmp_path, "d").message == "d: 30 of 50 rows cannot be used"


LETTERS = {
    "cp1251": "Где мой заказ 17, прошу ответить,доставка\nНеверный СЧЁТ на сумму 20 рублей,оплата\n",
    "koi8-r": "Где мой заказ 17, прошу ответить,доставка\nНеверный счёт на сумму 20 рублей,оплата\n",
    "cp932": "注文はどこですか、お願いします,配送\n請求書の金額が違います,請求\n",
    "euc_jp": "注文はどこですか、お願いします,配送\n請求書の金額が違います,請求\n",
    "gb18030": "我的包裹在哪里,物流\n发票金额不对,账单\n",
    "big5": "我的包裹在哪裡,物流\n發票金額不對,帳單\n",
    "cp949": "주문이 어디에 있나요,배송\n청구서 금액이 틀립니다,결제\n",
    "cp1253": "πού είναι η παραγγελία μου,παράδοση\nτο τιμολόγιο είναι λάθος,λογαριασμός\n",
    "cp1255": "איפה ההזמנה שלי,משלוח\nהחשבונית שגויה,חשבון\n",
    "cp1256": "أين طلبي من فضلك,توصيل\nالفاتورة خاطئة,الحساب\n",
    "cp874": "พัสดุของฉันอยู่ที่ไหน,ขนส่ง\nใบแจ้งหนี้ผิด,การเงิน\n",
}


@pytest.mark.parametrize("encoding", LETTERS)
def test_legacy_encodings_of_other_scripts_are_not_guessed(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "d.csv").write_bytes(("text,label\n" + LETTERS[encoding]).encode(encoding))
    assert guess_encoding(tmp_path / "d.csv") is None


@pytest.mark.parametrize(
    "text",
    [
        *("été à la fête où ça, déjà créée – “très” naïve", "Größe übermäßig Äpfel, Straße", "¿Dónde está mi pedido, señor?"),
        *("I don’t know why it’s broken", "25°C", "it´s", "Juan Álvarez", "Ärger, Änderung", "Acme™Corp", "wait——what"),
        *("pääsiäinen, yö ja työ", "perché è così, più giù, ciò che verrà", "põhjus on öö, ära mine, üks"),
        *(
            "bør, sær, på, når er pakken her",
            "þetta er ekki rétt, ég bíð, hún er æði, já, ýmislegt góð",
            "não são orações, à avó, você, pôr",
        ),
        *("für 3 m³ Erde 5 € ± 2 €, Größe", "château, dîner, théâtre, été, où, forêt", "shtëpi çdo ditë"),
    ],
)
@pytest.mark.parametrize("times", [1, 40])
def test_western_letters_stay_western(tmp_path: Path, text: str, times: int) -> None:
    """One letter beyond ASCII before one of ASCII is also a syllable of Windows' Korean."""
    (tmp_path / "d.csv").write_bytes(f"{text}\n".encode("cp1252") * times)
    assert guess_encoding(tmp_path / "d.csv") == "cp1252"
