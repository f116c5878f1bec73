"""Encodings from before UTF-8 of other scripts than the Latin one, and of languages east of the Western ones, told by the letters that a
text would then have."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from pathlib import Path

_SAMPLE, _BLOCK = 1 << 17, 1 << 20
#: Words of Western languages mix letters of ASCII and others; those of another script are of others alone.
_WORD, _OTHER_WORD, _OTHER_SCRIPT = re.compile(rb"[A-Za-z\x80-\xff]*[\x80-\xff][A-Za-z\x80-\xff]*"), re.compile(rb"[\x80-\xff]{2,}"), 0.8
#: Encodings of one byte a letter, each with the commonest small letters of a language: they make more than half of its texts.
_LETTERS = {
    "cp1251": "оеаинтсрвлк",
    "koi8-r": "оеаинтсрвлк",
    "cp1253": "αοιετσνηυρκπς",
    "cp1255": "יוהלאמרתבש",
    "cp1256": "اليمنورتبعة",
    "cp874": "านรกอเงมยลส่้ทว",
}
#: Common characters of Chinese, in each of its scripts.
_SIMPLIFIED = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事成方多经么去"
    "法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工使情明性知全三又关点正"
    "业外将两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西斯月话合回特代内信表化老给世位次度门任常先海通教儿原东"
    "声提立及比员解水名真论处走义各入几口认条平系气题活尔更别打女变四神总何电数安少报才结反受目太量再感建务做接必场件计管期市直德资命山"
    "金指请账单订款货您谢退登录号码服客"
)
_TRADITIONAL = (
    "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年過發後作裡用道行所然家種事成方多經麼去"
    "法學如都同現當沒動面起看定天分還進好小部其些主樣理心她本前開但因只從想實日軍者意無力它與長把機十民第公此已工使情明性知全三又關點正"
    "業外將兩高間由問很最重並物手應戰向頭文體政美相見被利什二等產或新己制身果加西月話合回特代內信表化老給世位次度門任常先海通教兒原東"
    "請帳單訂款貨您謝退登錄號碼服客"
)
_KANA = re.compile("[\u3040-\u30ff]")
#: The 2,350 syllables of KS X 1001, of two bytes beyond ASCII: those that Microsoft added begin as one accented letter before a plain one.
_HANGUL = re.compile(
    f"[{bytes(byte for lead in range(0xB0, 0xC9) for last in range(0xA1, 0xFF) for byte in (lead, last)).decode('euc_kr')}]"
)
#: Encodings of several bytes a letter, with what their texts are full of, and how much of it there is at least.
_WIDE = (
    ("cp932", _KANA, 0.2),
    ("euc_jp", _KANA, 0.2),
    ("cp949", _HANGUL, 0.8),
    ("gb18030", re.compile(f"[{_SIMPLIFIED}]"), 0.3),
    ("big5", re.compile(f"[{_TRADITIONAL}]"), 0.3),
)
_NARROW_LEAST = 0.5
#: Encodings of Latin letters that are none of the West, with the letters beyond ASCII that a language has, and those without which no text
#: of it is long. All small ones; hardly a letter is another one.
_LATIN = (
    *(
        (codec, letters, needed)
        for letters, needed in (
            ("ąćęłńóśźż", "łę"),
            ("áčďéěíňóřšťúůýž", "řě"),
            ("áäčďéíĺľňóôŕšťúýž", "čľ"),
            ("áéíóöőúüű", "őé"),
            ("čćžšđ", "čš"),
            ("ăâîşţșț", "ăţ"),
        )
        for codec in ("cp1250", "iso8859-2")
    ),
    ("cp1254", "çğıöşüâîû", "ğı"),
    ("cp1257", "ąčęėįšųūž", "ėš"),
    ("cp1257", "āčēģīķļņšūž", "āī"),
)
_LATIN_LEAST, _NEEDED_LEAST = 0.97, 0.02
#: A byte beyond ASCII between two of ASCII: of a Western text nearly all are, of another one few. Different letters that one has at least.
_BEYOND, _LONE, _FEWEST_LETTERS = re.compile(rb"[\x80-\xff]+"), 0.8, 4
#: What hardly stands in a text of any of them: numbers and marks of another script, capitals within a word.
_RARE = re.compile("[\u0e2f\u0e45\u0e4e-\u0e5b\u0e03\u0e05]|(?<=[а-яά-ώ])[А-ЯΆ-Ώ]")


def legacy_encoding(path: Path) -> str | None:
    """The encoding of a text in Cyrillic, Greek, Hebrew, Arabic, Thai, Chinese, Japanese or Korean, or in a language of Central Europe,
    Turkish or Baltic, that is no UTF-8; None where its letters look Western, or like none of these. The whole file decodes."""
    with path.open("rb") as stream:
        sample = stream.read(_SAMPLE)
    runs = _BEYOND.findall(sample)
    lone = sum(len(run) == 1 for run in runs) > _LONE * len(runs)
    likely = (None if lone else _wide(sample) or _narrow(sample)) or _latin(sample)
    return likely if likely and _decodes(path, likely) else None


def _latin(sample: bytes) -> str | None:
    """Of Latin letters that are none of the West, as Czech or Turkish has them: nearly all of those in the text are of one language, and
    the ones that it needs are among them."""
    found, beyond = list[tuple[float, str]](), sample.translate(None, bytes(range(128)))
    for name, letters, needed in _LATIN:
        others = [letter for letter in _decoded(beyond, name).casefold() if not letter.isascii() and _is_letter(letter)]
        counts = Counter(others)
        share = sum(counts[letter] for letter in letters) / max(1, len(others))
        enough = sum(counts[letter] > 0 for letter in letters) >= _FEWEST_LETTERS
        if enough and share >= _LATIN_LEAST and all(counts[letter] >= _NEEDED_LEAST * len(others) > 0 for letter in needed):
            found.append((share, name))
    return max(found, key=lambda each: each[0])[1] if found else None


def _is_letter(letter: str) -> bool:
    """What stands beside words in any language says nothing; controls, and what is a letter in another encoding, tell against this one."""
    return letter.isalpha() or "\x80" <= letter <= "\x9f" or letter in "¹²³¼½¾¿±¶"


def _wide(sample: bytes) -> str | None:
    found = list[tuple[float, str]]()
    for name, mark, least in _WIDE:
        text = _decoded(sample, name)
        if (share := _share(text, mark)) >= least and len(set(mark.findall(text))) >= _FEWEST_LETTERS:
            found.append((share / least, name))
    return max(found)[1] if found else None


def _narrow(sample: bytes) -> str | None:
    words = _WORD.findall(sample)
    if sum(_OTHER_WORD.fullmatch(word) is not None for word in words) < _OTHER_SCRIPT * len(words):
        return None
    marks = {name: re.compile(f"[{letters}]") for name, letters in _LETTERS.items()}
    texts = {name: _decoded(sample, name) for name in marks}
    found = {name: _share(text, marks[name]) - _share(text, _RARE) for name, text in texts.items()}
    best = max(found, key=lambda name: found[name])
    enough = len(set(marks[best].findall(texts[best]))) >= _FEWEST_LETTERS
    return best if enough and found[best] >= _NARROW_LEAST else None


def _share(text: str, mark: re.Pattern[str]) -> float:
    """Which part of the letters beyond ASCII ``mark`` finds."""
    others = sum(letter.isalpha() or not letter.isprintable() for letter in text if not letter.isascii())
    return len(mark.findall(text)) / others if others else 0.0


def _decoded(sample: bytes, name: str) -> str:
    """Nothing where the bytes are none of the encoding. The sample may end within a letter."""
    try:
        return codecs.getincrementaldecoder(name)().decode(sample, final=False)
    except UnicodeDecodeError:
        return ""


def _decodes(path: Path, name: str) -> bool:
    decoder = codecs.getincrementaldecoder(name)()
    try:
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True
